"""What was served: kept whole or not at all, written by the hour, and joined with the labels that came later."""

import json
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import SourceError
from features.engine.arrow_types import arrow_schema
from features.schema import newest_day, read_views
from monitoring.detection.served_window import write_served_window
from serving import service
from serving.http.middleware import ApiMiddleware
from serving.ranking.ranker import Ranker
from serving.ranking.request import request_type
from serving.telemetry.impression_log import Scored, ImpressionLog, sampled
from tests.support import tiny_project, world

SCHEMA, NOON = world.schema(), datetime(2026, 1, 12, 12)
ITEMS = [4, 1, 7]


def log_in(folder: Path, **changes: Any) -> ImpressionLog:
    """A log of every request."""
    return ImpressionLog(**{"folder": folder, "sample": 1.0, "rows_per_file": 1000, "seconds": 60.0} | changes)


def scored(user: int = 1, items: tuple[int, ...] = (4, 1), scenario: str = "feed", hour: int = 3) -> Scored:
    """A request of which the encoder reads nothing but the hour."""
    probabilities = np.linspace(0.1, 0.2, 2 * len(items)).reshape(-1, 2)
    return Scored(
        rows=lambda: pa.table({"hour": [hour] * len(items)}),
        model="tag",
        outputs=("click", "order"),
        keys={"user_id": user, "scenario": scenario, "item_id": list(items)},
        probabilities=probabilities,
    )


def rows_in(folder: Path) -> list[dict]:
    """Every row of the log."""
    return [row for path in sorted(folder.rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


@pytest.fixture(scope="module")
def ranker(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """The model of the tiny project."""
    registry = tmp_path_factory.mktemp("registry") / "registry.db"
    return tiny_project.ranker(project, registry)


def request(project: Path, **changes: Any) -> Any:
    """A valid request."""
    views = read_views(project / "data" / "features" / "views.json")
    accepted = request_type(SCHEMA, params.load(project / "params.yaml").serve, views)
    return accepted(**{"user_id": 1, "scenario": "search", "candidates": ITEMS, "context": {"hour": 5}} | changes)


def in_the_store(ranker: Ranker, entity: dict) -> dict:
    """Every feature of a user, in a scenario, and of an item, as Feast reads them from the online store."""
    wanted = [f"{view.name}:{column.name}" for view in ranker.state.model.views for column in view.columns]
    found = ranker.state.users.store.get_online_features(features=wanted, entity_rows=[entity]).to_dict()
    return {name: value for name, (value,) in found.items()} | entity


def test_the_log_holds_what_the_encoder_saw_and_the_model_said(ranker: Ranker, project: Path, tmp_path: Path) -> None:
    """One row per item in the order of the request: every column by name, as read; probabilities; the model's tag."""
    ranker.log = log_in(tmp_path)
    ranking = ranker.rank(request(project))
    ranker.log.close()
    rows = rows_in(tmp_path)
    seen = [in_the_store(ranker, {"user_id": 1, "scenario": "search", "item_id": item}) for item in ITEMS]
    names = [column.name for column in ranker.state.model.encoder.columns]
    read = [{name: row.get(name) for name in names} for row in seen]
    assert [{name: row[name] for name in names} for row in rows] == [row | {"hour": 5} for row in read]
    newest = newest_day("user_recent_items")
    assert [row[newest] for row in rows] == [row[newest] for row in seen]
    assert rows[0][newest] is not None
    assert [row["place"] for row in rows] == [0, 1, 2]
    said = dict(zip(ranking.items, ranking.probabilities["order"], strict=True))
    assert {row["item_id"]: row["score_order"] for row in rows} == said
    assert {(row["model_tag"], len(row["request_id"])) for row in rows} == {(ranking.model, 32)}


def test_a_sequence_that_came_with_the_request_has_no_age(ranker: Ranker, project: Path, tmp_path: Path) -> None:
    """The store knows of what day its own is, not that of another."""
    ranker.log = log_in(tmp_path)
    ranker.rank(request(project, overrides={"user": {"user_recent_items": [2, 3]}}))
    ranker.log.close()
    told = [(row["user_recent_items"], row[newest_day("user_recent_items")]) for row in rows_in(tmp_path)]
    assert told == [([2, 3], None)] * len(ITEMS)


@pytest.fixture
def root(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a service on the tiny project; what the one that others use answers comes back."""
    before = dict(vars(service.api))
    monkeypatch.setattr(service, "settings", lambda: tiny_project.with_read_timeout(project))
    monkeypatch.setenv("HINET_MODEL", str(project / tiny_project.MODEL))
    monkeypatch.setenv("HINET_ONLINE_STORE", str(project / tiny_project.ONLINE))
    yield monkeypatch
    vars(service.api).update(before)


def answers(folder: Path | None, root: pytest.MonkeyPatch) -> tuple[list[bytes], Any]:
    """What a service of its own answers, with a log in `folder`, and the log."""
    from starlette.testclient import TestClient

    root.delenv("HINET_IMPRESSION_LOG", raising=False)
    if folder:
        root.setenv("HINET_IMPRESSION_LOG", str(folder))
    served = service.RankingService.inner()
    if served.log:
        served.log.sample = 1.0
    client = TestClient(ApiMiddleware(api=service.api))
    bodies = [{"user_id": user, "scenario": "feed", "candidates": ITEMS} for user in range(6)]
    found = [client.post("/rank", json=body).content for body in bodies]
    served.close()
    return found, served.log


@pytest.mark.filterwarnings("ignore")  # starlette's on httpx
def test_the_service_answers_the_same_with_the_log_on_off_and_broken(root: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Byte for byte; the rows are there when it has stopped; a folder that cannot be written to is counted."""
    (tmp_path / "file").touch()
    off, none = answers(None, root)
    on, log = answers(tmp_path / "log", root)
    broken, failing = answers(tmp_path / "file" / "log", root)
    assert off == on == broken
    assert all("scores" in json.loads(answer) for answer in off)
    assert none is None
    assert (log.written, log.failed, len(rows_in(tmp_path / "log"))) == (6, 0, 18)
    assert (failing.written, failing.failed) == (0, 6)


def test_a_request_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """The draw is by request id: the same again, within what a larger share draws, and about as many as asked."""
    log = log_in(tmp_path, sample=0.3)
    for number in range(600):
        log.add(scored(items=(4, 1, 7)), f"request {number}", NOON)
    log.close()
    kept = {number for number in range(600) if sampled(f"request {number}", 0.3)}
    assert kept < {number for number in range(600) if sampled(f"request {number}", 0.5)}
    assert 140 < len(kept) < 220
    rows = rows_in(tmp_path)
    assert sorted({row["request_id"] for row in rows}) == sorted(f"request {number}" for number in kept)
    assert len(rows) == 3 * len(kept)


def test_files_are_by_hour_and_not_longer_than_asked(tmp_path: Path) -> None:
    """A file of an hour is closed when it has its rows; no half-written one is left."""
    log = log_in(tmp_path, rows_per_file=10)
    for number in range(20):
        log.add(scored(), f"{number}", NOON + timedelta(minutes=number * 4))
    log.close()
    paths = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.as_posix() for path in paths} == {f"day=2026-01-12/hour={hour}" for hour in (12, 13)}
    assert {path.suffix for path in paths} == {".parquet"}
    assert max(pq.read_metadata(tmp_path / path).num_rows for path in paths) == 10


def test_rows_do_not_wait_for_a_full_file(tmp_path: Path) -> None:
    """After `seconds` what is there is written though nothing more comes."""
    log = log_in(tmp_path, seconds=0.05)
    log.add(scored(), "one", NOON)
    until = time.monotonic() + 10
    while not rows_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert len(rows_in(tmp_path)) == 2
    log.close()


def test_whatever_goes_wrong_stays_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows that do not fit together are counted and told, and the next request is kept."""
    log = log_in(tmp_path)
    wrong = scored()
    wrong.keys["item_id"].append(9)
    log.add(wrong, "wrong", NOON)
    log.add(scored(), "right", NOON)
    log.close()
    assert (log.written, log.failed) == (1, 1)
    assert "could not be laid out" in caplog.text
    assert {row["request_id"] for row in rows_in(tmp_path)} == {"right"}


def test_a_request_pays_less_than_a_fifth_of_a_millisecond(tmp_path: Path) -> None:
    """In the middle of 300: a hash and a place in a queue."""
    log, taken = log_in(tmp_path), []
    for _ in range(300):
        started = time.perf_counter()
        log.add(scored())
        taken.append(time.perf_counter() - started)
    log.close()
    assert np.median(taken) < 2e-4
    assert log.written + log.missed == 300


EVENTS = [  # user, item, scenario, minutes after noon, click
    (1, 4, "feed", 3, 0),
    (1, 4, "feed", 4, 1),  # the first one counts
    (1, 1, "feed", 31, 1),  # too late
    (2, 4, "feed", -1, 1),  # before it was served
    (2, 1, "search", 2, 1),  # in another scenario
    (3, 4, "feed", 0, 1),  # at the very moment
    (3, 1, "feed", 30, 1),  # at the last moment
]


def events_in(folder: Path, start: datetime = NOON) -> Path:
    """EVENTS as `validate` would write them."""
    rows = [
        {
            "event_id": place,
            "timestamp": start + timedelta(minutes=minutes),
            "user_id": user,
            "item_id": item,
            "scenario": scenario,
            "hour": 12,
            "click": click,
            "order": None,
        }
        for place, (user, item, scenario, minutes, click) in enumerate(EVENTS)
    ]
    for row in rows:
        path = folder / f"day={row['timestamp'].date()}" / f"part-{row['event_id']}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row], arrow_schema(SCHEMA.events)), path)
    return folder


def window(project: Path, folder: Path, **changes: Any) -> tuple[list[dict], tuple[int, int]]:
    """The rows of a window, and what is told of it."""
    views, out = read_views(project / "data/features/views.json"), folder / "window.parquet"
    days = {"first_day": NOON.date(), "last_day": NOON.date(), "match_minutes": 30} | changes
    counts = write_served_window(folder / "log", folder / "events", SCHEMA, views, out=out, **days)
    expected = pq.read_schema(project / "data/training/test.parquet")
    assert pq.read_schema(out).names == [*expected.names, "score_click", "score_order", "request_id", "model_tag"]
    assert [pq.read_schema(out).field(name).type for name in expected.names] == expected.types
    return pq.read_table(out).to_pylist(), counts


@pytest.mark.parametrize("start", [NOON, NOON.replace(hour=23, minute=45)], ids=["noon", "before midnight"])
def test_labels_are_those_of_the_first_event_within_the_minutes(project: Path, tmp_path: Path, start: datetime) -> None:
    """Same user, item and scenario, not before the answer, not later than asked, over midnight too; others are null."""
    log = log_in(tmp_path / "log")
    for user in (1, 2, 3):
        log.add(scored(user), f"{user}", start)
    log.close()
    events_in(tmp_path / "events", start)
    rows, counts = window(project, tmp_path)
    found = {(row["user_id"], row["item_id"]): (row["event_id"], row["click"]) for row in rows}
    none = (None, None)
    assert found == {(1, 4): (0, 0), (1, 1): none, (2, 4): none, (2, 1): none, (3, 4): (5, 1), (3, 1): (6, 1)}
    assert counts == (6, 3)
    assert [row["request_id"] + str(row["item_id"]) for row in rows] == ["14", "11", "24", "21", "34", "31"]
    assert {row["timestamp"] for row in rows} == {start}
    assert [rows[0][name] for name in ("hour", "price", "order", "score_click")] == [3, None, None, 0.1]


def test_half_written_files_and_other_days_are_not_read(project: Path, tmp_path: Path) -> None:
    """A window is its days; what has no name of a complete file yet is nobody's."""
    log = log_in(tmp_path / "log")
    for days in (-1, 0, 1):
        log.add(scored(), f"{days}", NOON + timedelta(days=days))
    log.close()
    (tmp_path / "log/day=2026-01-12/hour=12/part-x.half").write_bytes(b"PAR1")
    rows, counts = window(project, tmp_path)
    assert {row["request_id"] for row in rows} == {"0"}
    assert counts == (2, 0)


def test_the_window_is_what_the_service_saw(ranker: Ranker, project: Path, tmp_path: Path) -> None:
    """Every column of the training set that the model reads is there as it was read."""
    ranker.log = log_in(tmp_path / "log")
    ranker.rank(request(project))
    ranker.log.close()
    today = datetime.now().date()
    rows, _ = window(project, tmp_path, first_day=today - timedelta(days=1), last_day=today + timedelta(days=1))
    seen = [in_the_store(ranker, {"user_id": 1, "scenario": "search", "item_id": item}) for item in ITEMS]
    names = [column.name for column in ranker.state.model.encoder.columns]
    read = [{name: row.get(name) for name in names} for row in seen]
    assert [{name: row[name] for name in names} for row in rows] == [row | {"hour": 5} for row in read]
    assert {row[newest_day("user_recent_items")] for row in rows} == {seen[0][newest_day("user_recent_items")]}


def test_nothing_served_and_a_broken_file_are_named(project: Path, tmp_path: Path) -> None:
    """The message says which folder, which days, and what to set; or that the folder cannot be joined."""
    with pytest.raises(SourceError, match=r"log holds nothing that was served from 2026-01-12 .* serve.log.folder"):
        window(project, tmp_path)
    path = tmp_path / "log/day=2026-01-12/hour=12/part-x.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match="cannot be joined with its events"):
        window(project, tmp_path, first_day=date(2026, 1, 12))
