"""The client of the shadow model: a share of the answers goes to its process, and requests never wait for it."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common import params
from common.errors import ParameterError
from common.serve_params import ServeShadow
from common.settings import read_settings
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult
from serving.shadow import client as client_module
from serving.shadow.client import WORKER, ShadowClient, open_shadow, shadow_settings
from serving.shadow.worker import ShadowWorker
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ShadowClient]]:
    """Start a client whose process runs some Python code; the clients are closed after the test."""
    clients: list[ShadowClient] = []

    def start(code: str, share: float = 1.0, pause: float = 0.05) -> ShadowClient:
        clients.append(ShadowClient([sys.executable, "-c", code], share, root=tmp_path, pause=pause))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


COPY = "import sys; [open('lines', 'a').write(line) for line in sys.stdin]"


def test_the_process_receives_requests_and_answers(
    start: Callable[..., ShadowClient], ranker: Ranker, request_: RankRequest, tmp_path: Path
) -> None:
    """At a share of one it gets all of them, in order, and ends with its input."""
    client, result = start(COPY), ranker.rank(request_)
    for _ in range(3):
        client.ranked(request_, result)
    client.close()
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["answer"]["items"] for line in lines] == [result.items] * 3
    assert lines[0]["request"]["context"] == {"hour": 3}
    assert (client.sent, client.missed, client.failed) == (3, 0, 0)


SLOW = """
import signal, sys, time
def write(*_):
    open("written", "w").close()
    sys.exit()
signal.signal(signal.SIGUSR1, write)
open("ready", "w").close()
time.sleep(60)
"""


def test_a_slow_process_gets_a_signal_before_it_is_killed(
    start: Callable[..., ShadowClient], ranker: Ranker, request_: RankRequest, tmp_path: Path
) -> None:
    """After SIGUSR1 it can write what it has compared."""
    client = start(SLOW)
    client.ranked(request_, ranker.rank(request_))
    wait_until((tmp_path / "ready").exists)
    client.close(timeout=1)
    assert (tmp_path / "written").exists()


def test_a_share_of_the_answers_is_sent_and_degraded_ones_never(
    start: Callable[..., ShadowClient], ranker: Ranker, request_: RankRequest
) -> None:
    """At a share of a tenth, about 100 of 1,000 answers are drawn."""
    client = start(COPY, share=0.1)
    result = ranker.rank(request_)
    degraded = RankingResult(**{**vars(result), "degraded": "the store"})
    client._queue.maxsize = 0  # none is dropped
    for _ in range(1000):
        client.ranked(request_, result)
        client.ranked(request_, degraded)
    wait_until(lambda: client._queue.empty())
    assert 50 < client.sent < 160


def test_a_process_that_hangs_does_not_delay_requests(
    start: Callable[..., ShadowClient], ranker: Ranker, request_: RankRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the queue is full, further requests are dropped and counted."""
    monkeypatch.setattr(client_module, "QUEUE_SIZE", 5)
    client, result = start("import time; time.sleep(60)"), ranker.rank(request_)
    began = time.perf_counter()
    for _ in range(2000):
        client.ranked(request_, result)
    assert time.perf_counter() - began < 2
    assert client.missed > 1000
    wait_until(lambda: client._process is not None)
    client._process.kill()


def test_a_process_that_ends_is_started_again(
    start: Callable[..., ShadowClient], ranker: Ranker, request_: RankRequest
) -> None:
    """The requests that are lost meanwhile are counted."""
    client, result = start("import sys; sys.stdin.readline()"), ranker.rank(request_)

    def lost_two() -> bool:
        client.ranked(request_, result)
        return client.failed >= 2 and client.sent >= 2

    wait_until(lost_two)


def sources_of(project: Path, redis: str | None = None) -> ModelSources:
    """What the service of a project reads."""
    return ModelSources(project / "model", project / "online.db", project / "registry.db", redis)


def test_a_shadow_opens_only_with_a_model(project: Path) -> None:
    """By default there is none; with a model, its process reads the online store of the service."""
    settings = params.load(project / "params.yaml").serve.shadow
    assert open_shadow(settings, project, sources=sources_of(project)) is None
    chosen = settings.model_copy(update={"model": "artifacts/models/hinet_plus"})
    client = open_shadow(chosen, project, sources=sources_of(project, redis="127.0.0.1:1"))
    assert client is not None
    assert client.command[1:3] == ["-m", "serving.shadow.worker"]
    assert client.command[-1] == "127.0.0.1:1"
    client.close()


def test_the_name_of_the_worker_is_that_of_its_module() -> None:
    """The client starts it by name, without importing it."""
    assert ShadowWorker.__module__ == WORKER


def test_the_environment_overrides_the_parameters(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, share and folder can each be overridden; an impossible share is an error that names the variable."""
    settings = params.load(project / "params.yaml").serve.shadow
    assert shadow_settings(settings, read_settings()) == settings
    monkeypatch.setenv("HINET_SHADOW", "artifacts/next")
    assert shadow_settings(settings, read_settings()) == settings.model_copy(update={"model": "artifacts/next"})
    monkeypatch.setenv("HINET_SHADOW_SHARE", "1")
    monkeypatch.setenv("HINET_SHADOW_LOG", "both")
    expected = ServeShadow(model="artifacts/next", share=1.0, folder="both")
    assert shadow_settings(settings, read_settings()) == expected
    for wrong in ("0", "1.5", "half"):
        monkeypatch.setenv("HINET_SHADOW_SHARE", wrong)
        with pytest.raises(ParameterError, match=f"HINET_SHADOW_SHARE: Input should be .* found '{wrong}'"):
            read_settings()
