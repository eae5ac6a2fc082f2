"""The A/B test: each user by the model of his arm; a challenger that fails never takes the champion down."""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving.variants import perturbed_model
from common.paths import ROOT
from serving import service
from serving.http.middleware import ApiMiddleware
from serving.ranking.ab_split import CHALLENGER, CHAMPION, arm_of
from serving.ranking.ab_test import ABRanker, Challenger, open_challenger
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from serving.shadow.client import ShadowClient
from tests.support import tiny_project, world
from tests.support.impressions import open_log, rows_in
from tests.support.waiting import wait_until

TEST: dict[str, Any] = {"share": 0.5, "salt": "first"}
ITEMS = list(range(9))
BY_ARM = {arm: [user for user in range(12) if arm_of(user, **TEST) == arm] for arm in (CHAMPION, CHALLENGER)}
pytestmark = pytest.mark.integration


@pytest.fixture
def model(project: Path, tmp_path: Path) -> Path:
    """The folder of a challenger: the model of the project with noise on its weights."""
    perturbed_model(project / tiny_project.MODEL, tmp_path / "challenger")
    return tmp_path / "challenger"


@pytest.fixture
def ranker(project: Path, model: Path, tmp_path: Path) -> Iterator[ABRanker]:
    """An A/B test on the tiny project; its challenger is not watched by a thread."""
    made = open_test(project, model, tmp_path)
    yield made
    made.challenger.close()


def open_test(project: Path, model: Path, folder: Path, *, pause: float = 60.0, timeout_ms: float = 1e4) -> ABRanker:
    """An A/B test of the project's model and another."""
    settings = tiny_project.with_read_timeout(project, store={"pause_seconds": pause})
    champion = tiny_project.ranker(project, folder / "registry.db")
    changes = {"challenger": str(model), "timeout_ms": timeout_ms, **TEST}
    test, registry = settings.ab.model_copy(update=changes), folder / "challenger.db"
    sources = champion.loaded.sources
    challenger = open_challenger(champion, sources, settings, test, root=ROOT, registry=registry)
    assert challenger is not None
    return ABRanker(champion, challenger)


def request(user: int) -> Any:
    """A request of a user."""
    accepted = request_type(world.schema(), tiny_project.with_read_timeout(ROOT))
    return accepted(user_id=user, scenario="search", candidates=ITEMS)


def scores(result: RankingResult) -> dict[int, float]:
    """Scores by item."""
    return dict(zip(result.items, result.scores.tolist(), strict=True))


def plain(ranker: Ranker, user: int) -> RankingResult:
    """The result of a model without a test."""
    return ranker.rank_with(ranker.loaded, request(user))[0]


def test_each_user_is_answered_by_the_model_of_his_arm(ranker: ABRanker) -> None:
    """The answer names arm and model, and has that model's scores."""
    models = {CHAMPION: ranker.champion, CHALLENGER: ranker.challenger.ranker}
    assert models[CHAMPION].loaded.model.tag != models[CHALLENGER].loaded.model.tag == ranker.challenger.tag
    for arm, users in BY_ARM.items():
        for user in users:
            result = ranker.rank(request(user))
            expected = plain(models[arm], user)
            assert (result.arm, result.model, result.degraded) == (arm, expected.model, None)
            assert scores(result) == scores(expected)


def test_both_models_share_the_access_to_the_store(ranker: ABRanker) -> None:
    """They read the same columns, so a second connection is not opened."""
    assert ranker.challenger.ranker.loaded.users is ranker.champion.loaded.users


def test_a_test_of_a_model_against_itself_is_possible(project: Path, tmp_path: Path) -> None:
    """An A/A test: both arms are the same model."""
    ranker = open_test(project, project / tiny_project.MODEL, tmp_path)
    assert ranker.challenger.tag == ranker.champion.loaded.model.tag
    assert ranker.rank(request(BY_ARM[CHALLENGER][0])).arm == CHALLENGER


@pytest.mark.parametrize("damage", ["missing", "damaged", "schema"])
def test_a_challenger_that_cannot_be_loaded_is_replaced_by_the_champion(
    project: Path, model: Path, tmp_path: Path, damage: str
) -> None:
    """Flagged in the answer; a challenger that is repaired is taken into use."""
    whole = shutil.copytree(model, tmp_path / "whole")
    if damage == "damaged":
        (model / "weights.safetensors").write_bytes(b"no weights")
    elif damage == "missing":
        shutil.rmtree(model)
    else:
        (model / "schema.json").write_text((model / "schema.json").read_text().replace("channel", "canal"))
    ranker = open_test(project, model, tmp_path)
    assert (ranker.challenger.tag, ranker.challenger.reloader.reloads) == (None, 0)
    assert ranker.challenger.reloader.error
    user = BY_ARM[CHALLENGER][0]
    result = ranker.rank(request(user))
    assert (result.arm, result.replaced, result.model) == (CHALLENGER, "failed", ranker.champion.loaded.model.tag)
    assert result.degraded == "challenger: it is not loaded; the champion answers"
    assert scores(result) == scores(plain(ranker.champion, user))
    assert ranker.rank(request(BY_ARM[CHAMPION][0])).degraded is None
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(whole, model)
    assert ranker.challenger.reloader.check()
    assert (ranker.rank(request(user)).model, ranker.rank(request(user)).degraded) == (ranker.challenger.tag, None)


@pytest.mark.parametrize("fault", ["raises", "not finite"])
def test_a_challenger_that_fails_is_replaced_by_the_champion(
    ranker: ABRanker, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """By its whole answer, not by label rates; after three failures in a row the challenger is no longer called."""
    calls: list[int] = []

    def score(*_: Any) -> np.ndarray:
        calls.append(1)
        if fault == "raises":
            raise RuntimeError("no memory")
        return np.full((len(ITEMS), 2), np.nan)

    monkeypatch.setattr(ranker.challenger.ranker.loaded.scorer, "score", score)
    user = BY_ARM[CHALLENGER][0]
    results = [ranker.rank(request(user)) for _ in range(6)]
    assert len(calls) == 3
    reason = "RuntimeError" if fault == "raises" else "its answer is not finite"
    assert results[0].degraded == f"challenger: {reason}; the champion answers"
    assert results[5].degraded == f"challenger: {reason}, 3 times in a row; the champion answers"
    for result in results:
        assert (result.arm, scores(result)) == (CHALLENGER, scores(plain(ranker.champion, user)))


def test_a_challenger_that_is_too_slow_delays_an_answer_by_its_limit(
    project: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the champion answers; after three in a row nobody waits, until the challenger is fast enough again.

    One ranking of the challenger runs at a time, also where requests have left it; a slow success is none.
    """
    ranker = open_test(project, model, tmp_path, pause=0.001, timeout_ms=100.0)
    scorer, user = ranker.challenger.ranker.loaded.scorer, BY_ARM[CHALLENGER][0]
    score, expected, released, running = scorer.score, scores(plain(ranker.champion, user)), threading.Event(), []

    def slow(*arguments: Any) -> np.ndarray:
        running.append(1)
        released.wait(20)
        time.sleep(0.15)  # beyond the limit, once it goes on
        running.pop()
        return score(*arguments)

    monkeypatch.setattr(scorer, "score", slow)
    started = time.monotonic()
    results = [ranker.rank(request(user)) for _ in range(8)]
    assert time.monotonic() - started < 10
    assert [result.replaced for result in results] == ["late"] * 3 + ["failed"] * 5
    assert all((result.arm, scores(result)) == (CHALLENGER, expected) for result in results)
    reason = "challenger: no answer within 100 ms"
    assert results[0].degraded == f"{reason}; the champion answers"
    assert results[7].degraded == f"{reason}, 3 times in a row; the champion answers"
    assert running == [1]
    assert ranker.rank(request(BY_ARM[CHAMPION][0])).degraded is None
    released.set()
    wait_until(lambda: not running)
    trial = ranker.challenger._breaker._trial
    assert trial is not None
    wait_until(trial.done)
    assert ranker.challenger._breaker.open, "an answer after the limit does not help"
    monkeypatch.setattr(scorer, "score", score)
    wait_until(lambda: ranker.rank(request(user)).model == ranker.challenger.tag)
    ranker.challenger.close()


def test_both_models_are_reloaded(ranker: ABRanker, model: Path, project: Path, tmp_path: Path) -> None:
    """A replaced challenger is taken into use beside the champion, which stays as it is."""
    champion, before = ranker.champion.loaded, ranker.challenger.tag
    assert not ranker.challenger.reloader.check()
    shutil.rmtree(model)
    perturbed_model(project / tiny_project.MODEL, model, seed=2)
    assert ranker.challenger.reloader.check()
    assert ranker.champion.loaded is champion
    after = ranker.rank(request(BY_ARM[CHALLENGER][0])).model
    assert after == ranker.challenger.tag != before


def test_the_log_names_the_arm(ranker: ABRanker, tmp_path: Path) -> None:
    """Beside the model that answered; without a test the log has no such column."""
    log = open_log(tmp_path / "log")
    ranker.champion.observers = [log]
    for user in range(12):
        ranker.rank(request(user))
    log.close()
    rows = rows_in(tmp_path / "log")
    tags = {CHAMPION: ranker.champion.loaded.model.tag, CHALLENGER: ranker.challenger.tag}
    assert {(row["user_id"], row["ab_arm"], row["model_tag"]) for row in rows} == {
        (user, arm, tags[arm]) for arm, users in BY_ARM.items() for user in users
    }
    without = open_log(tmp_path / "without")
    ranker.champion.rank(request(1))
    without.ranked(request(1), *ranker.champion.rank_with(ranker.champion.loaded, request(1)))
    without.close()
    assert all("ab_arm" not in row for row in rows_in(tmp_path / "without"))


def test_the_shadow_model_is_compared_with_the_champion_only(ranker: ABRanker, tmp_path: Path) -> None:
    """Answers of the challenger are not handed on."""
    shadow = ShadowClient(["cat"], 1.0, root=tmp_path)
    ranker.champion.observers = [shadow]
    for user in range(12):
        ranker.rank(request(user))
    shadow.close()
    assert (shadow.sent, shadow.failed) == (len(BY_ARM[CHAMPION]), 0)


def test_a_service_without_a_challenger_has_no_test(project: Path, tmp_path: Path) -> None:
    """The default of params.yaml."""
    settings, champion = tiny_project.with_read_timeout(project), tiny_project.ranker(project, tmp_path / "registry.db")
    registry, sources = tmp_path / "challenger.db", champion.loaded.sources
    assert open_challenger(champion, sources, settings, settings.ab, root=ROOT, registry=registry) is None


@pytest.mark.filterwarnings("ignore")  # starlette's on httpx
@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
def test_a_service_serves_both_models(
    service_environment: pytest.MonkeyPatch, model: Path, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    """As an operator sets it: the answers and GET /model name arms and models; a broken challenger is a note."""
    from starlette.testclient import TestClient

    for name, value in (("CHALLENGER", str(model)), ("SHARE", "0.5"), ("SALT", "first"), ("TIMEOUT_MS", "10000")):
        service_environment.setenv(f"HINET_AB_{name}", value)
    if broken:
        (model / "weights.safetensors").unlink()
    service.RankingService.inner.check()
    assert ("the champion answers in place of the challenger" in capsys.readouterr().err) == broken
    opened = service.RankingService.inner()
    client = TestClient(ApiMiddleware(api=service.api))
    bodies = [{"user_id": user, "scenario": "feed", "candidates": ITEMS} for user in range(12)]
    answers = client.post("/rank_batch", json=bodies).json()
    info = client.get("/model").json()
    opened.close()
    assert [answer["arm"] for answer in answers] == [arm_of(user, **TEST) for user in range(12)]
    assert {answer["model"] for answer in answers if answer["arm"] == CHAMPION} == {info["tag"]}
    test = info["ab"]
    assert (test["share"], test["salt"], test["timeout_ms"]) == (0.5, "first", 10_000)
    assert (test["challenger"] is None) == broken
    assert (test["error"] is not None) == broken
    of_challenger = [answer for answer in answers if answer["arm"] == CHALLENGER]
    assert {answer["model"] for answer in of_challenger} == {info["tag"] if broken else test["challenger"]}


def test_a_challenger_that_fails_while_it_is_warmed_up_stops_nothing(
    ranker: ABRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service starts all the same."""

    def fail(*_: Any) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(ranker.challenger.ranker, "warm_up", fail)
    Challenger.start(ranker.challenger, [request(1)])
    assert ranker.rank(request(BY_ARM[CHALLENGER][0])).degraded is None
