"""The collector: each event once with every label, in the context in which it was shown; what is no row yet waits."""

import datetime
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.errors import SchemaError, SourceError
from features.schema import Column, DType, Role
from serving.events.event_queue import EventQueue
from serving.feedback.collector import open_ended
from serving.feedback.partitions import check_collectable
from serving.feedback.progress import FILE
from serving.feedback.received import days_in
from tests.support import world
from tests.support.feedback import LABELS, LATER, SCHEMA, collector, log_impressions, put, rows_of, write_profiles

pytestmark = pytest.mark.integration

TABLES = world.tables(rows=150, days=3)
EVENTS = TABLES["events"]
ROWS = EVENTS.to_dict("records")
FIRST = ROWS[0]["timestamp"].date()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The log of a service that showed every event, and the ingested tables."""
    log_impressions(tmp_path / "impressions", EVENTS)
    write_profiles(tmp_path / "ingested", TABLES)
    return tmp_path


@pytest.fixture
def queue(tmp_path: Path) -> EventQueue:
    """An empty queue."""
    return EventQueue(tmp_path / "events")


def run(root: Path, queue: EventQueue, as_of: datetime.datetime = LATER, **changes: object) -> dict:
    """A run of a new process; returns the counts by day."""
    started = collector(root, queue, **changes)
    started.receive()
    return started.write(as_of)[1]


def assert_is_the_log(root: Path, events: pd.DataFrame = EVENTS) -> None:
    """The partitions hold these events."""
    expected = events.sort_values("event_id", ignore_index=True)
    pd.testing.assert_frame_equal(rows_of(root)[list(expected)], expected, check_dtype=False)


def test_any_order_duplicates_late_labels_and_repeated_steps_give_the_log_that_was_shown(
    root: Path, queue: EventQueue
) -> None:
    """Reports come shuffled, twice and label by label, over many runs, each of which a kill may have repeated."""
    random, progress, before = np.random.default_rng(0), root / "feedback" / FILE, None
    for _ in range(4):
        for labels in ((), ("click",), LABELS, LABELS):
            put(queue, [ROWS[index] for index in random.permutation(len(ROWS))[:80]], labels)
        run(root, queue)
        held = {path: path.read_bytes() for path in root.glob("feedback/log/**/*.parquet")}
        now = progress.read_text()
        if before is not None:
            progress.write_text(before)  # as a kill after the files were written, and before it was recorded, leaves it
            run(root, queue)
            assert {path: path.read_bytes() for path in held} == held
            assert progress.read_text() == now
        before = now
    put(queue, ROWS)
    run(root, queue)
    assert_is_the_log(root)
    assert run(root, queue) == {}


def test_only_days_that_change_are_written(root: Path, queue: EventQueue) -> None:
    """A late label changes the partition of its event's day, and no other file."""
    put(queue, ROWS, labels=("click",))
    run(root, queue)
    assert_is_the_log(root, EVENTS.assign(order=np.nan))
    stamps = {path: path.stat().st_mtime_ns for path in root.glob("feedback/log/events/*/*.parquet")}
    put(queue, ROWS[:1])
    assert list(run(root, queue)) == [FIRST]
    changed = [path.parent.name for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert changed == [f"day={FIRST}"]


def test_an_open_day_is_written_again_until_its_labels_are_final(root: Path, queue: EventQueue) -> None:
    """Without a report a click is unknown for some hours, in which the event is no row of the schema; then it is 0."""
    put(queue, ROWS[:1], labels=())
    shown = ROWS[0]["timestamp"].to_pydatetime().replace(tzinfo=UTC)
    counts = run(root, queue, shown + timedelta(hours=23))[FIRST]
    assert (counts.received, counts.written, counts.lacking["label"]) == (1, 0, 1)
    assert rows_of(root).empty
    assert run(root, queue, shown + timedelta(hours=24))[FIRST].written == 1
    assert rows_of(root).iloc[0]["click"] == 0
    assert pd.isna(rows_of(root).iloc[0]["order"])  # the schema allows a missing one
    midnight = datetime.datetime.combine(FIRST, datetime.time(), UTC) + timedelta(days=2)
    assert list(run(root, queue, midnight)) == [FIRST]
    assert run(root, queue, midnight) == {}


def test_a_label_makes_what_it_requires_1(root: Path, queue: EventQueue) -> None:
    """An order is reported after a click was said to be 0, or without one: the event is a click."""
    order = [row | {"click": 0, "order": None} for row in ROWS[:1]]
    put(queue, order)
    put(queue, [row | {"order": 1} for row in ROWS[:2]], labels=("order",))
    run(root, queue)
    assert rows_of(root)[["click", "order"]].to_numpy().tolist() == [[1, 1], [1, 1]]


def test_an_event_without_an_impression_waits_for_it(root: Path, queue: EventQueue) -> None:
    """The context that the schema requires is not known; a file of the log that appears later has it."""
    shown = ROWS[0] | {"event_id": 1000, "user_id": 11, "item_id": 8, "scenario": "channel"}
    put(queue, [shown])
    hour = shown["timestamp"].to_pydatetime().replace(tzinfo=UTC) + timedelta(hours=1)
    assert run(root, queue, hour)[FIRST].lacking["context"] == 1
    too_early = shown | {"timestamp": shown["timestamp"] - timedelta(minutes=60)}
    log_impressions(root / "impressions", pd.DataFrame([too_early]))
    assert run(root, queue, hour)[FIRST].matched == 0
    log_impressions(root / "impressions", pd.DataFrame([shown | {"hour": 23}]))
    assert run(root, queue, hour)[FIRST].written == 1
    assert rows_of(root).iloc[0]["hour"] == 23


def test_what_the_log_has_forgotten_stays(root: Path, queue: EventQueue) -> None:
    """Files of the scored-impression log are removed: a day that is written again has the context of before."""
    put(queue, ROWS, labels=("click",))
    run(root, queue)
    for path in root.glob("impressions/**/*.parquet"):
        path.unlink()
    put(queue, ROWS)
    run(root, queue)
    assert_is_the_log(root)


def test_new_ids_have_no_profile(root: Path, queue: EventQueue) -> None:
    """A new user is added from the midnight of its first event on; an item needs its tags, so its events wait."""
    new = EVENTS.head(2).assign(event_id=[900, 901], user_id=[77, 78])
    log_impressions(root / "impressions", new.assign(item_id=[EVENTS["item_id"][0], 55]))
    put(queue, new.assign(item_id=[EVENTS["item_id"][0], 55]).to_dict("records"))
    assert run(root, queue)[FIRST].lacking == {"profile": 1, "context": 0, "label": 0}
    users = pd.read_parquet(root / "feedback/log/users.parquet")
    assert list(users["user_id"]) == [*range(12), 77, 78]
    assert users["city"].isna().iloc[-2:].all()
    assert list(users["registered_at"].iloc[-2:]) == [pd.Timestamp(FIRST)] * 2
    assert list(rows_of(root)["event_id"]) == [900]
    assert len(pd.read_parquet(root / "feedback/log/items.parquet")) == len(TABLES["items"])


def test_another_schema_writes_all_days(root: Path, queue: EventQueue) -> None:
    """A model with one more label: the partitions of every day have its column, and what was known of it."""
    put(queue, ROWS)
    run(root, queue)
    like = Column(name="like", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), nullable=True)
    tasks = (*SCHEMA.tasks, type(SCHEMA.tasks[0])(name="like"))
    other = type(SCHEMA)(**vars_of(events=(*SCHEMA.events, like), tasks=tasks))
    assert set(run(root, queue, schema=other)) == days_in(root / "feedback" / "received")
    assert rows_of(root)["like"].isna().all()


def vars_of(**changes: object) -> dict:
    """The fields of the tiny schema, with changes."""
    names = ("name", "scenarios", "tasks", "events", "users", "items")
    return {name: getattr(SCHEMA, name) for name in names} | changes


def test_the_queue_keeps_what_was_not_collected(root: Path, queue: EventQueue) -> None:
    """From the first run of a collector on, an entry is forgotten only when it was collected."""
    put(queue, ROWS[:5])
    run(root, queue)
    put(queue, ROWS[5:9])
    last = queue.after(0, 100)[-1].number
    assert queue.forget(last, LATER.timestamp() * 2) == 5
    run(root, queue)
    assert queue.forget(last, LATER.timestamp() * 2) == 4
    assert_is_the_log(root, EVENTS.head(9))


def test_events_after_the_end_of_the_log_make_it_open_ended() -> None:
    """The latest timestamp of a finished log is no rule for what follows."""
    schema = world.schema()
    (timestamp,) = schema.by_role(Role.TIMESTAMP)
    end = datetime.datetime(2026, 1, 11, tzinfo=UTC).timestamp()
    bounded = type(timestamp)(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP, maximum=end)
    bounded_schema = type(schema)(**vars_of(events=tuple(bounded if c is timestamp else c for c in schema.events)))
    assert open_ended(bounded_schema, datetime.date(2026, 1, 10)) == bounded_schema
    assert open_ended(bounded_schema, datetime.date(2026, 1, 11)) == schema


def test_tables_of_another_data_set_are_refused(root: Path, queue: EventQueue) -> None:
    """Absent tables, or tables without a column of the schema: the message names the file, and what to do."""
    put(queue, ROWS)
    path = root / "ingested/items.parquet"
    pd.read_parquet(path).drop(columns="price").to_parquet(path)
    with pytest.raises(SourceError, match=r"items\.parquet has no column price.*--profiles"):
        run(root, queue)
    path.unlink()
    with pytest.raises(SourceError, match=r"items\.parquet does not exist.*dvc repro ingest"):
        run(root, queue)


def test_a_schema_whose_rows_nobody_can_know_is_refused() -> None:
    """A weight is known neither from an event nor from the log."""
    weight = Column(name="weight", role=Role.WEIGHT, dtype=DType.FLOAT32)
    with pytest.raises(SchemaError, match="column weight: the weight of a served impression is not known"):
        check_collectable(type(SCHEMA)(**vars_of(events=(*SCHEMA.events, weight))))
