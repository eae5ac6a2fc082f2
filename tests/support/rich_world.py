"""The tiny world with every kind of rule, valid and with every broken row: shared by the tests of the quality gate."""

import dataclasses
import datetime
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.engine.arrow_types import arrow_schema
from features.quality import partitions
from features.schema import Column, DType, Kind, Role, Schema
from tests.support import broken_tables, world

if TYPE_CHECKING:
    from features.quality.raw_log import TableResult

END = datetime.datetime(2026, 6, 1)  # no event lies later


def rich_schema() -> Schema:
    """The tiny world with every kind of rule: closed lists, numbers without bounds, ids as text, an end."""
    tiny = world.schema()
    level = Column(name="level", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, values=(1, 2, 3))
    weight = Column(name="weight", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC)
    colours = Column(
        name="colours",
        role=Role.FEATURE,
        dtype=DType.STRING_LIST,
        kind=Kind.MULTI_VALUED,
        length=2,
        nullable=True,
        values=("red", "blue"),
    )
    image = Column(name="image", role=Role.FEATURE, dtype=DType.FLOAT32_LIST, kind=Kind.VECTOR, length=4, nullable=True)
    related = Column(name="related", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, length=2)
    timestamp = next(column for column in tiny.events if column.role is Role.TIMESTAMP)
    bounded = dataclasses.replace(timestamp, maximum=END.replace(tzinfo=datetime.UTC).timestamp())
    events = tuple(bounded if column is timestamp else column for column in tiny.events)
    return dataclasses.replace(
        tiny, events=events, users=(*tiny.users, level, weight), items=(*tiny.items, colours, related, image)
    )


def rich_tables(rows: int = 400) -> broken_tables.Tables:
    """Valid tables of `rich_schema`, as Arrow."""
    frames, schema = world.tables(rows=rows), rich_schema()
    users, items = len(frames["users"]), len(frames["items"])
    frames["users"] = frames["users"].assign(level=1 + np.arange(users) % 3, weight=np.linspace(-1, 1, users))
    colours = [None, ["red"], ["red", "blue"], []] * items
    images = [None, *np.random.default_rng(1).normal(size=(items - 1, 4)).astype(np.float32).tolist()]
    related = [[1, 2], [3], []] * (items // 3)
    frames["items"] = frames["items"].assign(colours=colours[:items], related=related, image=images)
    return {
        name: pa.Table.from_pandas(frame, arrow_schema(schema.tables[name]), preserve_index=False)
        for name, frame in frames.items()
    }


def write(folder: Path, tables: broken_tables.Tables, days: list[datetime.date] | None = None) -> Path:
    """Write tables as `ingest` would; `days` are those of the files of the events, else of their timestamps."""
    for name in ("users", "items"):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(tables[name], folder / f"{name}.parquet")
    events = tables["events"]
    if days is None:
        days = [datetime.date(2026, 1, 5)] * len(events)
        if "timestamp" in events.column_names and pa.types.is_timestamp(events["timestamp"].type):
            days = [timestamp.date() for timestamp in events["timestamp"].to_pylist()]
    for day in sorted(set(days)) or [datetime.date(2026, 1, 5)]:
        path = folder / "events" / f"day={day}" / "part-0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(events.filter(pa.array([own == day for own in days], pa.bool_())), path)
    return folder


def read(folder: Path, name: str) -> list[broken_tables.Row]:
    """The rows of a table that a stage wrote, in order."""
    parts = [pq.ParquetFile(path).read().to_pylist() for path in partitions.files(folder, name)]
    return [row for part in parts for row in part]


def check(folder: Path, schema: Schema, **options: float) -> dict[str, "TableResult"]:
    """Results by table of the quality gate on the tables in `folder`/ingested."""
    from features.quality.raw_log import check_raw_log

    folders = {name: folder / name for name in ("ingested", "out", "quarantine")}
    results = check_raw_log(schema, **folders, **{"tolerance": 0.0, **options})
    return {result.table: result for result in results}


def failed(results: dict[str, "TableResult"]) -> set[tuple[str, str]]:
    """Table and name of every rule that is broken."""
    return {(name, outcome.rule.name) for name, result in results.items() for outcome in result.failed}


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file under a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def as_text(row: broken_tables.Row) -> str:
    """A row as text: equal for equal values, NaN too."""
    return repr(sorted(row.items()))


ROWS = broken_tables.rows(rich_schema(), rich_tables())


def check_broken_rows(folder: Path) -> dict[str, "TableResult"]:
    """Results by table of valid tables with every broken row of ROWS appended, checked in `folder`."""
    tables = rich_tables()
    days = [timestamp.date() for timestamp in tables["events"]["timestamp"].to_pylist()]
    for name, valid in tables.items():
        cases = [case for case in ROWS if case.table == name]
        more = [row for case in cases for row in case.rows]
        tables[name] = pa.concat_tables([valid, pa.Table.from_pylist(more, valid.schema)])
        if name == "events":
            days += [case.day or row["timestamp"].date() for case in cases for row in case.rows]
    write(folder / "ingested", tables, days)
    return check(folder, rich_schema(), batch_rows=150)
