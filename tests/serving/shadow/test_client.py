"""The second model: asked a share of the requests, compared, never heard, and never in the way."""

import contextlib
import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.serving.servers import OURS, Server, get, post, serve
from benchmarks.serving.variants import perturbed_model
from common import params
from common.errors import ParameterError
from common.serve_params import ServeShadow
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from serving.ranking.loaded_model import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import RankRequest, request_type
from serving.ranking.result import RankingResult
from serving.shadow import client as shadow_module
from serving.shadow.client import WAITING, Shadow, shadow_settings, json_line, open_shadow
from serving.shadow.worker import Comparison, Metrics, ShadowWorker
from serving.telemetry.impression_log import ImpressionLog
from tests.serving.telemetry.test_prometheus import read
from tests.support import tiny_project, world

PATIENCE = 20.0  # seconds
METRICS = Metrics()  # one: values of the same name are the same in a process whose metrics are shared


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """The model that is heard."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("first") / "registry.db")


@pytest.fixture(scope="module")
def accepted(project: Path) -> type[RankRequest]:
    """What can be asked."""
    return request_type(world.schema(), params.load(project / "params.yaml").serve)


@pytest.fixture
def request_(accepted: type[RankRequest]) -> RankRequest:
    """For all items, the best five."""
    return accepted(user_id=1, scenario="feed", candidates=list(range(9)), k=5, context={"hour": 3})


def second(ranker: Ranker, accepted: type[RankRequest], log: ImpressionLog | None = None) -> ShadowWorker:
    """The second model; here the first one once more, unless its ranker is another."""
    return ShadowWorker(ranker, accepted, METRICS, log)


def compared(**changes: Any) -> Comparison:
    """Two answers about four items."""
    facts: dict[str, Any] = {
        "keys": {"user_id": 1},
        "items": [5, 6, 7, 8],
        "scores": np.array([4.0, 3.0, 2.0, 1.0]),
        "shadow_scores": np.array([4.5, 3.5, 2.5, 1.5]),
        "probabilities": {},
        "models": ("a", "b"),
        "seconds": (0.001, 0.002),
    }
    return Comparison(**facts | changes)


def sample(taken: ShadowWorker, name: str, **labels: str) -> float:
    """A value that Prometheus would see."""
    return taken.metrics.registry.get_sample_value(name, labels) or 0.0


def test_the_same_order_is_a_correlation_of_one_and_a_shift_is_a_mean() -> None:
    """Reversed it is minus one; of scores that are all alike, or of two items, it says nothing."""
    assert compared().correlation == pytest.approx(1)
    assert compared().shift == pytest.approx(0.5)
    assert compared(shadow_scores=np.array([1.0, 2, 3, 4])).correlation == pytest.approx(-1)
    assert compared(shadow_scores=np.ones(4)).correlation is None
    assert compared(items=[1, 2], scores=np.ones(2), shadow_scores=np.ones(2)).correlation is None


def test_the_same_model_says_the_same(ranker: Ranker, accepted: type[RankRequest], request_: RankRequest) -> None:
    """Of the items of the answer, though the second one ranks all candidates."""
    taken = second(ranker, accepted)
    before = sample(taken, "hinet_shadow_requests_total", outcome="compared")
    ranked = ranker.rank(request_)
    found = taken.take(orjson.loads(json_line(request_, ranked)))
    assert found is not None
    assert found.items == ranked.items
    np.testing.assert_allclose(found.shadow_scores, ranked.scores, rtol=1e-6)
    assert found.correlation == pytest.approx(1)
    assert found.shift == pytest.approx(0, abs=1e-6)
    assert sample(taken, "hinet_shadow_requests_total", outcome="compared") == before + 1
    assert sample(taken, "hinet_shadow_rank_correlation_count", scenario="feed") > 0
    assert sample(taken, "hinet_shadow_model", tag=ranked.model) == 1


def test_both_answers_are_kept_a_row_per_item(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest, tmp_path: Path
) -> None:
    """With ids, tags, scores and probabilities of both."""
    log = ImpressionLog(folder=tmp_path, sample=1, rows_per_file=1000, seconds=60)
    ranked = ranker.rank(request_)
    second(ranker, accepted, log).take(orjson.loads(json_line(request_, ranked)))
    log.close()
    rows = pq.read_table(tmp_path).to_pydict()
    assert rows["item_id"] == ranked.items
    assert rows["user_id"] == [1] * 5
    assert rows["place"] == list(range(5))
    np.testing.assert_allclose(rows["shadow_score_click"], rows["score_click"], rtol=1e-6)
    assert set(rows["shadow_tag"]) == {ranked.model}
    assert {"request_id", "served_at", "scenario", "model_tag", "seconds", "shadow_seconds", "score"} <= set(rows)


def test_what_cannot_be_compared_stops_nothing(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest
) -> None:
    """A line that is no request is counted, and the next one is taken."""
    taken = second(ranker, accepted)
    before = [
        sample(taken, "hinet_shadow_requests_total", outcome=outcome) for outcome in ("not comparable", "compared")
    ]
    taken.run([b"no JSON\n", b'{"request": {}}\n', json_line(request_, ranker.rank(request_))])
    after = [
        sample(taken, "hinet_shadow_requests_total", outcome=outcome) for outcome in ("not comparable", "compared")
    ]
    assert np.subtract(after, before).tolist() == [2, 1]


def test_whoever_is_told_to_hurry_leaves_the_rest(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest
) -> None:
    """The request that is being compared is the last one."""
    taken, line = second(ranker, accepted), json_line(request_, ranker.rank(request_))
    before = sample(taken, "hinet_shadow_requests_total", outcome="compared")

    def lines() -> Iterator[bytes]:
        yield line
        yield line
        taken.over = True
        yield line

    taken.run(lines())
    assert sample(taken, "hinet_shadow_requests_total", outcome="compared") - before == 2


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Shadow]]:
    """A shadow whose process is a line of Python; it is closed at the end."""
    made: list[Shadow] = []

    def start(code: str, share: float = 1.0, pause: float = 0.05) -> Shadow:
        made.append(Shadow([sys.executable, "-c", code], share, root=tmp_path, pause=pause))
        return made[-1]

    yield start
    for shadow in made:
        shadow.close()


COPY = "import sys; [open('lines', 'a').write(line) for line in sys.stdin]"


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait for what a thread or a process does."""
    last = time.monotonic() + patience
    while not condition() and time.monotonic() < last:
        time.sleep(0.01)
    assert condition()


def test_the_process_is_handed_requests_and_answers(
    started: Callable[..., Shadow], ranker: Ranker, request_: RankRequest, tmp_path: Path
) -> None:
    """All of them at a share of one, in order, and it ends with its input."""
    shadow, ranked = started(COPY), ranker.rank(request_)
    for _ in range(3):
        shadow.ranked(request_, ranked)
    shadow.close()
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["answer"]["items"] for line in lines] == [ranked.items] * 3
    assert lines[0]["request"]["context"] == {"hour": 3}
    assert (shadow.asked, shadow.missed, shadow.failed) == (3, 0, 0)


SLOW = """
import signal, sys, time
def write(*_):
    open("written", "w").close()
    sys.exit()
signal.signal(signal.SIGUSR1, write)
open("ready", "w").close()
time.sleep(60)
"""


def test_a_process_that_is_late_writes_what_it_has(
    started: Callable[..., Shadow], ranker: Ranker, request_: RankRequest, tmp_path: Path
) -> None:
    """One that does not come to the end of its input in time is told so before it is killed."""
    shadow = started(SLOW)
    shadow.ranked(request_, ranker.rank(request_))
    until((tmp_path / "ready").exists)
    shadow.close(timeout=1)
    assert (tmp_path / "written").exists()


def test_a_share_is_drawn_and_a_degraded_answer_never(
    started: Callable[..., Shadow], ranker: Ranker, request_: RankRequest
) -> None:
    """A tenth of a thousand, within what chance allows."""
    shadow = started(COPY, share=0.1)
    ranked = ranker.rank(request_)
    degraded = RankingResult(**{**vars(ranked), "degraded": "the store"})
    shadow._queue.maxsize = 0  # none is left out
    for _ in range(1000):
        shadow.ranked(request_, ranked)
        shadow.ranked(request_, degraded)
    until(lambda: shadow._queue.empty())
    assert 50 < shadow.asked < 160


def test_a_process_that_hangs_costs_requests_nothing(
    started: Callable[..., Shadow], ranker: Ranker, request_: RankRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue fills, the rest is left out and counted; none waits."""
    monkeypatch.setattr(shadow_module, "WAITING", 5)
    shadow, ranked = started("import time; time.sleep(60)"), ranker.rank(request_)
    began = time.perf_counter()
    for _ in range(2000):
        shadow.ranked(request_, ranked)
    assert time.perf_counter() - began < 2
    assert shadow.missed > 1000
    until(lambda: shadow._process is not None)
    shadow._process.kill()


def test_a_process_that_dies_is_started_again(
    started: Callable[..., Shadow], ranker: Ranker, request_: RankRequest
) -> None:
    """What is lost meanwhile is counted."""
    shadow, ranked = started("import sys; sys.stdin.readline()"), ranker.rank(request_)

    def lost_two() -> bool:
        shadow.ranked(request_, ranked)
        return shadow.failed >= 2 and shadow.asked >= 2

    until(lost_two)


def test_no_model_no_shadow(project: Path) -> None:
    """As params.yaml has it; with one, its process reads the store of the service."""
    settings = params.load(project / "params.yaml").serve.shadow
    assert open_shadow(settings, project, online=project / "online.db", redis=None) is None
    chosen = settings.model_copy(update={"model": "artifacts/models/hinet"})
    shadow = open_shadow(chosen, project, online=project / "online.db", redis="127.0.0.1:1")
    assert shadow is not None
    assert shadow.command[1:3] == ["-m", "serving.shadow.worker"]
    assert shadow.command[-1] == "127.0.0.1:1"
    shadow.close()


def test_the_environment_changes_what_params_say(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, share and folder, each by itself: a bento's parameters are sealed. A share that is none is named."""
    settings = params.load(project / "params.yaml").serve.shadow
    assert shadow_settings(settings) == settings
    monkeypatch.setenv("HINET_SHADOW", "artifacts/next")
    assert shadow_settings(settings) == settings.model_copy(update={"model": "artifacts/next"})
    monkeypatch.setenv("HINET_SHADOW_SHARE", "1")
    monkeypatch.setenv("HINET_SHADOW_LOG", "both")
    assert shadow_settings(settings) == ServeShadow(model="artifacts/next", share=1.0, folder="both")
    for wrong in ("0", "1.5", "half"):
        monkeypatch.setenv("HINET_SHADOW_SHARE", wrong)
        with pytest.raises(ParameterError, match=f"HINET_SHADOW_SHARE must be .* found '{wrong}'"):
            shadow_settings(settings)


def test_a_degraded_answer_of_the_second_model_is_not_compared(
    ranker: Ranker, accepted: type[RankRequest], request_: RankRequest, project: Path, tmp_path: Path
) -> None:
    """Without the user's features it says something else; that is counted, and no difference of the models."""
    online = tmp_path / "online.db"
    shutil.copy(project / tiny_project.ONLINE, online)
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    settings = tiny_project.with_read_timeout(project, store={"timeout_ms": 100.0})
    blind = second(
        open_ranker(ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db"), settings), accepted
    )
    before = sample(blind, "hinet_shadow_requests_total", outcome="degraded")
    with contextlib.closing(sqlite3.connect(online, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        assert blind.take(orjson.loads(json_line(request_, ranker.rank(request_)))) is None
    assert sample(blind, "hinet_shadow_requests_total", outcome="degraded") == before + 1


SENT = 200  # requests to a real service
WAIT = 300.0  # seconds for a process of the lowest priority on a busy machine


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_service_asks_a_second_model(project: Path, tmp_path: Path) -> None:
    """Each answer of 200 is compared with that of a model with some noise: Prometheus and the Parquet files say how."""
    perturbed_model(project / tiny_project.MODEL, tmp_path / "noisy")
    tags = [read_model(folder).tag for folder in (project / tiny_project.MODEL, tmp_path / "noisy")]
    environment = {
        "HINET_MODEL": project / tiny_project.MODEL,
        "HINET_ONLINE_STORE": project / tiny_project.ONLINE,
        "HINET_SHADOW": tmp_path / "noisy",
        "HINET_SHADOW_SHARE": 1,
        "HINET_SHADOW_LOG": tmp_path / "both",
    }
    with serve(OURS, environment={name: str(value) for name, value in environment.items()}) as server:
        whole = 0
        for number in range(SENT):
            answer = said(server, number)
            assert answer["model"] == tags[0], "nobody gets the second model's answers"
            whole += not answer["degraded"]
            if number == SENT // 2:  # whoever stops a service may tell all its processes: this one waits for its input
                until(lambda: compared_by(server) == whole, WAIT)  # noqa: B023 (it is over before the next turn)
                second_of(server).terminate()
            if whole - compared_by(server) > WAITING / 2:
                until(lambda: compared_by(server) == whole, WAIT)  # noqa: B023
        until(lambda: compared_by(server) == whole, WAIT)
        page = read(get(f"{server.url}/metrics"))
        until(lambda: len(both(tmp_path)) == whole * 9, WAIT)
    kept = both(tmp_path)
    assert whole > SENT / 2
    assert page["hinet_shadow_model", ("tag", tags[1])] == 1
    assert kept["request_id"].nunique() == whole
    assert (set(kept["model_tag"]), set(kept["shadow_tag"])) == ({tags[0]}, {tags[1]})
    assert 0 < np.abs(kept["shadow_score"] - kept["score"]).max() < 1


def second_of(server: Server) -> psutil.Process:
    """The process of the second model."""
    (found,) = [process for process in server.processes() if "serving.shadow.worker" in process.cmdline()]
    return found


def both(folder: Path) -> pd.DataFrame:
    """Rows of the answers that are kept so far."""
    files = sorted((folder / "both").rglob("*.parquet"))
    return pd.concat([pq.read_table(path).to_pandas() for path in files]) if files else pd.DataFrame()


def said(server: Server, number: int) -> dict[str, Any]:
    """What a service answers to one of the tiny world's users about all items."""
    asked = {"user_id": number % 12, "scenario": "feed", "candidates": list(range(9))}
    answer: dict[str, Any] = orjson.loads(post(f"{server.url}/rank", orjson.dumps(asked)))
    return answer


def compared_by(server: Server) -> float:
    """How many answers were compared, as Prometheus reads it."""
    page = read(get(f"{server.url}/metrics"))
    lost = [
        value
        for (name, *labels), value in page.items()
        if name == "hinet_shadow_requests_total" and labels != [("outcome", "compared")]
    ]
    assert not any(lost), page
    return page.get(("hinet_shadow_requests_total", ("outcome", "compared")), 0.0)
