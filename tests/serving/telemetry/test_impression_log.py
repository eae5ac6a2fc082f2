"""The scored-impression log: requests are kept with all their items or not at all, in files by hour."""

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from common import params
from features.schema import newest_day, read_views
from serving import service
from serving.http.middleware import ApiMiddleware
from serving.ranking.ab_split import in_share
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.telemetry.impression_log import QUEUE_BYTES, ImpressionLog
from tests.support import tiny_project, world
from tests.support.impressions import NOON, impressions, online_features, open_log, rows_in
from tests.support.waiting import wait_until

ITEMS = [4, 1, 7]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the tiny project."""
    return tiny_project.ranker(project, tmp_path_factory.mktemp("registry") / "registry.db")


@pytest.fixture
def log(ranker: Ranker, tmp_path: Path) -> Iterator[ImpressionLog]:
    """A log of every request of the ranker."""
    opened = open_log(tmp_path)
    ranker.observers = [opened]
    yield opened
    ranker.observers = []
    opened.close()


def request(project: Path, **changes: Any) -> Any:
    """A valid request with changes."""
    views = read_views(project / "data" / "features" / "views.json")
    accepted = request_type(world.schema(), params.load(project / "params.yaml").serve, views)
    return accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS, "context": {"hour": 5}} | changes)


def test_a_row_has_what_the_encoder_read_and_the_model_said(
    ranker: Ranker, log: ImpressionLog, project: Path, tmp_path: Path
) -> None:
    """A row per item, in the order of the request: every column as read, probabilities, and the model's tag."""
    result = ranker.rank(request(project))
    log.close()
    rows = rows_in(tmp_path)
    expected = [online_features(ranker, {"user_id": 1, "scenario": "search", "item_id": item}) for item in ITEMS]
    names = [column.name for column in ranker.loaded.model.encoder.columns]
    read = [{name: row.get(name) for name in names} for row in expected]
    assert [{name: row[name] for name in names} for row in rows] == [row | {"hour": 5} for row in read]
    newest = newest_day("user_recent_items")
    assert [row[newest] for row in rows] == [row[newest] for row in expected]
    assert rows[0][newest] is not None
    assert [row["place"] for row in rows] == [0, 1, 2]
    probabilities = dict(zip(result.items, result.probabilities["order"], strict=True))
    assert {row["item_id"]: row["score_order"] for row in rows} == probabilities
    assert {(row["model_tag"], len(row["request_id"])) for row in rows} == {(result.model, 32)}


def test_an_overridden_sequence_has_no_newest_day(
    ranker: Ranker, log: ImpressionLog, project: Path, tmp_path: Path
) -> None:
    """The store knows the day of the stored sequence, not that of the request's."""
    ranker.rank(request(project, overrides={"user": {"user_recent_items": [2, 3]}}))
    log.close()
    rows = [(row["user_recent_items"], row[newest_day("user_recent_items")]) for row in rows_in(tmp_path)]
    assert rows == [([2, 3], None)] * len(ITEMS)


def answers_with_log(folder: Path | None, service_environment: pytest.MonkeyPatch) -> tuple[list[bytes], Any]:
    """The answers of a new service with a log in `folder`, and its log."""
    from starlette.testclient import TestClient

    service_environment.delenv("HINET_IMPRESSION_LOG", raising=False)
    if folder:
        service_environment.setenv("HINET_IMPRESSION_LOG", str(folder))
    opened = service.RankingService.inner()
    if opened.log:
        opened.log.sample = 1.0
    client = TestClient(ApiMiddleware(api=service.api))
    bodies = [{"user_id": user, "scenario": "feed", "candidates": ITEMS} for user in range(6)]
    answers = [client.post("/rank", json=body).content for body in bodies]
    opened.close()
    return answers, opened.log


@pytest.mark.filterwarnings("ignore")  # starlette's on httpx
def test_answers_do_not_depend_on_the_log(service_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are equal to the byte with the log on, off and broken; a folder that cannot be written is counted."""
    (tmp_path / "file").touch()
    off, none = answers_with_log(None, service_environment)
    on, log = answers_with_log(tmp_path / "log", service_environment)
    broken, failing = answers_with_log(tmp_path / "file" / "log", service_environment)
    assert off == on == broken
    assert all("scores" in json.loads(answer) for answer in off)
    assert none is None
    assert (log.written, log.failed, len(rows_in(tmp_path / "log"))) == (6, 0, 18)
    assert (failing.written, failing.failed) == (0, 6)


def test_an_empty_variable_turns_no_log_on(service_environment: pytest.MonkeyPatch) -> None:
    """HINET_IMPRESSION_LOG without a value is the same as no variable."""
    service_environment.setenv("HINET_IMPRESSION_LOG", "")
    opened = service.RankingService.inner()
    opened.close()
    assert opened.log is None


def test_a_request_is_kept_with_all_its_items_or_not_at_all(tmp_path: Path) -> None:
    """The draw is by request id: repeatable, contained in that of a larger share, and of about the right size."""
    log = open_log(tmp_path, sample=0.3)
    for number in range(600):
        log.add(impressions(items=(4, 1, 7)), f"request {number}", NOON)
    log.close()
    kept = {number for number in range(600) if in_share(f"request {number}", 0.3)}
    assert kept < {number for number in range(600) if in_share(f"request {number}", 0.5)}
    assert 140 < len(kept) < 220
    rows = rows_in(tmp_path)
    assert sorted({row["request_id"] for row in rows}) == sorted(f"request {number}" for number in kept)
    assert len(rows) == 3 * len(kept)


def test_files_are_by_hour_and_of_limited_length(tmp_path: Path) -> None:
    """A file is complete when it has `rows_per_file` rows; no partial file remains."""
    log = open_log(tmp_path, rows_per_file=10)
    for number in range(20):
        log.add(impressions(), f"{number}", NOON + timedelta(minutes=number * 4))
    log.close()
    paths = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.as_posix() for path in paths} == {f"day=2026-01-12/hour={hour}" for hour in (12, 13)}
    assert {path.suffix for path in paths} == {".parquet"}
    assert max(pq.read_metadata(tmp_path / path).num_rows for path in paths) == 10


def test_rows_do_not_wait_for_a_full_file(tmp_path: Path) -> None:
    """After `seconds` they are written though no further request comes."""
    log = open_log(tmp_path, seconds=0.05)
    log.add(impressions(), "one", NOON)
    wait_until(lambda: bool(rows_in(tmp_path)), seconds=10)
    assert len(rows_in(tmp_path)) == 2
    log.close()


def test_an_error_of_the_log_stays_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A request whose columns have different lengths is counted and logged, and the next request is kept."""
    log = open_log(tmp_path)
    wrong = impressions()
    wrong.candidates.keys["item_id"].append(9)
    log.add(wrong, "wrong", NOON)
    log.add(impressions(), "right", NOON)
    log.close()
    assert (log.written, log.failed) == (1, 1)
    assert "could not be laid out" in caplog.text
    assert {row["request_id"] for row in rows_in(tmp_path)} == {"right"}


def test_what_waits_for_the_log_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that were read from more bytes than the queue may hold are dropped and counted; a file is not."""
    monkeypatch.setattr(ImpressionLog, "_hold", lambda *_: time.sleep(0.5))  # a slow disk
    log = open_log(tmp_path)
    for _ in range(20):
        log.add(impressions(), size=QUEUE_BYTES // 2)
    assert log.missed >= 16
    log.close()


def test_rows_in_memory_beyond_its_bytes_are_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although there are fewer than a file's, and although it is not yet time."""
    monkeypatch.setattr("serving.telemetry.impression_log.HELD_BYTES", 1000)
    log = ImpressionLog(folder=tmp_path, sample=1.0, rows_per_file=10**6, seconds=3600.0)
    for _ in range(50):
        log.add(impressions(), served_at=NOON)
    wait_until(lambda: log.written > 0)
    log.close()
    assert (log.written, log.failed, log.missed) == (50, 0, 0)
