"""The window of scored impressions: rows of the log with the labels that came later."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from common.errors import ParameterError, SourceError
from features.engine.arrow_types import arrow_schema
from features.schema import newest_day, read_views
from monitoring.detection.served_window import write_served_window
from serving.ranking.request import request_type
from tests.support import tiny_project, world
from tests.support.impressions import NOON, impressions, online_features, open_log

SCHEMA = world.schema()
ITEMS = [4, 1, 7]
EVENTS = [  # user, item, scenario, minutes after noon, click
    (1, 4, "feed", 3, 0),
    (1, 4, "feed", 4, 1),  # a second event: the first one counts
    (1, 1, "feed", 31, 1),  # too late
    (2, 4, "feed", -1, 1),  # before the impression
    (2, 1, "search", 2, 1),  # in another scenario
    (3, 4, "feed", 0, 1),  # at the timestamp of the impression
    (3, 1, "feed", 30, 1),  # at the last timestamp that counts
]
pytestmark = pytest.mark.integration


def write_events(folder: Path, start: datetime = NOON) -> Path:
    """EVENTS as `validate` would write them."""
    rows = [
        {
            "event_id": index,
            "timestamp": start + timedelta(minutes=minutes),
            "user_id": user,
            "item_id": item,
            "scenario": scenario,
            "hour": 12,
            "click": click,
            "order": None,
        }
        for index, (user, item, scenario, minutes, click) in enumerate(EVENTS)
    ]
    for row in rows:
        path = folder / f"day={row['timestamp'].date()}" / f"part-{row['event_id']}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row], arrow_schema(SCHEMA.events)), path)
    return folder


def window(project: Path, folder: Path, **changes: Any) -> tuple[list[dict], tuple[int, int]]:
    """The rows of a window, and the numbers of impressions and of those with an event."""
    views, out = read_views(project / "data/features/views.json"), folder / "window.parquet"
    days = {"first_day": NOON.date(), "last_day": NOON.date(), "match_minutes": 30} | changes
    counts = write_served_window(folder / "log", folder / "events", SCHEMA, views, out=out, **days)
    expected = pq.read_schema(project / "data/training/test.parquet")
    assert pq.read_schema(out).names == [*expected.names, "score_click", "score_order", "request_id", "model_tag"]
    assert [pq.read_schema(out).field(name).type for name in expected.names] == expected.types
    return pq.read_table(out).to_pylist(), counts


@pytest.mark.parametrize("start", [NOON, NOON.replace(hour=23, minute=45)], ids=["noon", "before midnight"])
def test_labels_are_those_of_the_first_event_within_the_minutes(project: Path, tmp_path: Path, start: datetime) -> None:
    """Of the same user, item and scenario, not before the impression, over midnight too; other labels are null."""
    log = open_log(tmp_path / "log")
    for user in (1, 2, 3):
        log.add(impressions(user), f"{user}", start)
    log.close()
    write_events(tmp_path / "events", start)
    rows, counts = window(project, tmp_path)
    labels = {(row["user_id"], row["item_id"]): (row["event_id"], row["click"]) for row in rows}
    none = (None, None)
    assert labels == {(1, 4): (0, 0), (1, 1): none, (2, 4): none, (2, 1): none, (3, 4): (5, 1), (3, 1): (6, 1)}
    assert counts == (6, 3)
    assert [row["request_id"] + str(row["item_id"]) for row in rows] == ["14", "11", "24", "21", "34", "31"]
    assert {row["timestamp"] for row in rows} == {start}
    assert [rows[0][name] for name in ("hour", "price", "order", "score_click")] == [3, None, None, 0.1]


def test_the_impressions_of_an_arm_are_a_window(project: Path, tmp_path: Path) -> None:
    """With the column ab_arm; of a log without an A/B test there is no such window, and the message says so."""
    log = open_log(tmp_path / "log")
    for user, arm in ((1, "champion"), (2, "challenger"), (3, None)):
        log.add(dataclasses.replace(impressions(user), arm=arm), f"{user}", NOON)
    log.close()
    views, out = read_views(project / "data/features/views.json"), tmp_path / "window.parquet"
    days: dict[str, Any] = {"first_day": NOON.date(), "last_day": NOON.date(), "match_minutes": 30}
    for arm, users in ((None, {1: "champion", 2: "challenger", 3: None}), ("challenger", {2: "challenger"})):
        write_served_window(tmp_path / "log", tmp_path / "events", SCHEMA, views, out=out, arm=arm, **days)
        assert {row["user_id"]: row["ab_arm"] for row in pq.read_table(out).to_pylist()} == users
    without = open_log(tmp_path / "without")
    without.add(impressions(1), "1", NOON)
    without.close()
    with pytest.raises(SourceError, match="no impressions of an A/B test: leave out --arm champion"):
        write_served_window(tmp_path / "without", tmp_path / "events", SCHEMA, views, out=out, arm="champion", **days)


def test_partial_files_and_other_days_are_not_read(project: Path, tmp_path: Path) -> None:
    """A window has the complete files of its days."""
    log = open_log(tmp_path / "log")
    for days in (-1, 0, 1):
        log.add(impressions(), f"{days}", NOON + timedelta(days=days))
    log.close()
    (tmp_path / "log/day=2026-01-12/hour=12/.part-x.parquet.partial").write_bytes(b"PAR1")
    rows, counts = window(project, tmp_path)
    assert {row["request_id"] for row in rows} == {"0"}
    assert counts == (2, 0)


def test_a_window_has_what_the_service_read(project: Path, tmp_path: Path) -> None:
    """Every column of the training set that the model reads has the value that the encoder read."""
    ranker = tiny_project.ranker(project, tmp_path / "registry.db")
    log = open_log(tmp_path / "log")
    ranker.observers = [log]
    views = read_views(project / "data" / "features" / "views.json")
    accepted = request_type(SCHEMA, params.load(project / "params.yaml").serve, views)
    ranker.rank(accepted(user_id=1, scenario="search", candidates=ITEMS, context={"hour": 5}))
    log.close()
    today = datetime.now(UTC).date()
    rows, _ = window(project, tmp_path, first_day=today - timedelta(days=1), last_day=today + timedelta(days=1))
    expected = [online_features(ranker, {"user_id": 1, "scenario": "search", "item_id": item}) for item in ITEMS]
    names = [column.name for column in ranker.loaded.model.encoder.columns]
    read = [{name: row.get(name) for name in names} for row in expected]
    assert [{name: row[name] for name in names} for row in rows] == [row | {"hour": 5} for row in read]
    newest = newest_day("user_recent_items")
    assert {row[newest] for row in rows} == {expected[0][newest]}


def test_an_empty_window_and_a_broken_file_are_reported(project: Path, tmp_path: Path) -> None:
    """The message names folder, days and the setting; or that the impressions cannot be joined with their events."""
    with pytest.raises(SourceError, match=r"log holds no impressions scored from 2026-01-12 .* serve.log.folder"):
        window(project, tmp_path)
    path = tmp_path / "log/day=2026-01-12/hour=12/part-x.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no Parquet")
    with pytest.raises(SourceError, match="cannot be joined with their events"):
        window(project, tmp_path, first_day=date(2026, 1, 12))


def test_a_log_of_other_types_is_a_sentence(project: Path, tmp_path: Path) -> None:
    """Text where the schema declares a number: nothing is written."""
    log = open_log(tmp_path / "log")
    log.add(impressions(), "0", NOON)
    log.close()
    (path,) = (tmp_path / "log").glob("*/*/*.parquet")
    table = pq.read_table(path)
    texts = pa.array(["ten"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("hour"), "hour", texts), path)
    with pytest.raises(SourceError, match=r"cannot be joined with their events: .*ten.*types of --schema and --views"):
        window(project, tmp_path)
    assert not (tmp_path / "window.parquet").exists()


@pytest.mark.parametrize("minutes", [-1, 1e300, float("nan")])
def test_minutes_of_no_length_of_time_are_refused(project: Path, tmp_path: Path, minutes: float) -> None:
    """By the name of the option."""
    with pytest.raises(ParameterError, match="--match-minutes"):
        window(project, tmp_path, match_minutes=minutes)
