"""Events of the queue by day, each once: a file for each day, to which later entries are merged.

Merging is idempotent. An event is known by its id: who saw what, where and when is what its first entry says, and of
labels that contradict each other the larger one counts, as in the state of a session (features/session/events.py).
"""

from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from common.files import replacing
from features.engine import sql
from features.engine.arrow_types import TYPES
from features.schema import Column, Role, Schema
from serving.events.event_queue import Entry

PART = "part-0.parquet"
NUMBER = "__number"  # of the entry that was the first to report an event
_KEYS = (Role.EVENT_ID, Role.TIMESTAMP, Role.USER, Role.ITEM, Role.SCENARIO)  # in the order of an entry


def received_columns(schema: Schema) -> tuple[Column, ...]:
    """The columns of events that an entry of the queue can hold."""
    return schema.by_role(*_KEYS, Role.LABEL)


def parse(entries: Sequence[Entry], schema: Schema) -> pa.Table:
    """Entries as rows of the received columns, with the number of each; labels that are not known are null."""
    *keys, labels = zip(*(orjson.loads(entry.body) for entry in entries), strict=True)
    by_role: dict[Role, Sequence[Any]] = dict(zip(_KEYS, keys, strict=True))
    columns = {
        column.name: pa.array(
            [known.get(column.name) for known in labels] if column.role is Role.LABEL else by_role[column.role],
            TYPES[column.dtype],
        )
        for column in received_columns(schema)
    }
    return pa.table(columns | {NUMBER: pa.array([entry.number for entry in entries], pa.int64())})


def by_day(events: pa.Table, schema: Schema) -> Iterator[tuple[date, pa.Table]]:
    """The rows of each UTC day."""
    days = events[schema.timestamp].to_numpy().astype("datetime64[D]")
    for day in np.unique(days):
        yield day.item(), events.filter(pa.array(days == day))


def day_file(folder: Path, day: date) -> Path:
    """The file of a day under `folder`."""
    return folder / f"day={day}" / PART


def days_in(folder: Path) -> set[date]:
    """The days that have a file under `folder`."""
    return {date.fromisoformat(path.parent.name.removeprefix("day=")) for path in folder.glob(f"day=*/{PART}")}


def merge_day(connection: duckdb.DuckDBPyConnection, schema: Schema, events: pa.Table, path: Path) -> None:
    """Merge rows into the file of their day, which is replaced."""
    rows = "select * from __new"
    if path.exists():
        rows += f" union all by name select * from {sql.parquet(path)}"
    event_id, timestamp = sql.column(schema.event_id), sql.column(schema.timestamp)
    merged = (
        f"select {', '.join(_merged(column) for column in received_columns(schema))}, min({NUMBER}) as {NUMBER} "
        f"from ({rows}) group by {event_id} order by {timestamp}, {event_id}"
    )
    connection.register("__new", events)
    with replacing(path) as partial:
        connection.execute(f"copy ({merged}) to {sql.literal(partial)} (format parquet)")
    connection.unregister("__new")


def _merged(column: Column) -> str:
    """SQL: the value of a column in the rows of one event."""
    name = sql.column(column.name)
    if column.role is Role.EVENT_ID:
        return name
    return f"max({name}) as {name}" if column.role is Role.LABEL else f"arg_min({name}, {NUMBER}) as {name}"
