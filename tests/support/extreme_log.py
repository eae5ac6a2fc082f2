"""Logs of every role and type with extreme values, as Hypothesis draws them, and their way through the pipeline."""

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from hypothesis import strategies as st

from features.datasets.log import Log
from features.schema import Column, DType, Kind, Role, Schema, Task
from tests.support import extreme_values, world

Row = dict[str, Any]
START = datetime.datetime(2026, 1, 5)
KINDS = {
    "category": (DType.INT64, Kind.CATEGORICAL),
    "number": (DType.INT64, Kind.NUMERIC),
    "float": (DType.FLOAT32, Kind.NUMERIC),
    "text": (DType.STRING, Kind.CATEGORICAL),
    "ids": (DType.INT64_LIST, Kind.SEQUENCE),
    "words": (DType.STRING_LIST, Kind.MULTI_VALUED),
    "vector": (DType.FLOAT32_LIST, Kind.VECTOR),
}
PLAIN: Row = {
    "category": 1,
    "number": 2,
    "float": 0.5,
    "text": "a",
    "ids": [1, 2],
    "words": ["a"],
    "vector": [0.5, -1.0, 2.0],
}


def schema(user: DType, item: DType, *, nullable: bool) -> Schema:
    """Every kind of feature of an impression, a user and an item; ids of these types."""
    keys = {
        "user": Column(name="user", role=Role.USER, dtype=user, kind=Kind.CATEGORICAL),
        "item": Column(name="item", role=Role.ITEM, dtype=item, kind=Kind.CATEGORICAL),
    }
    since = (Column(name=f"{name}_since", role=Role.KNOWN_AT, dtype=DType.TIMESTAMP, nullable=True) for name in keys)
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP),
        *keys.values(),
        Column(name="scenario", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=("a",)),
        *_features("context", nullable),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, nullable=True),
    )
    users, items = ((keys[name], next(since), *_features(name, nullable)) for name in ("user", "item"))
    tasks = (Task(name="click"),)
    return Schema(name="extreme", scenarios=("a",), tasks=tasks, events=events, users=users, items=items)


def _features(owner: str, nullable: bool) -> Iterator[Column]:
    for name, (dtype, kind) in KINDS.items():
        length = 3 if dtype in (DType.INT64_LIST, DType.STRING_LIST, DType.FLOAT32_LIST) else None
        log = kind is Kind.NUMERIC and dtype is DType.INT64
        yield Column(
            name=f"{owner}_{name}", role=Role.FEATURE, dtype=dtype, kind=kind, nullable=nullable, length=length, log=log
        )


def sampled() -> tuple[Schema, dict[str, list[Row]]]:
    """A schema with nullable features, users by text, items by number, and a row for each sample value."""
    declared = schema(DType.STRING, DType.INT64, nullable=True)
    tables: dict[str, list[Row]] = {"users": [], "items": []}
    for name, key, dtype in (("users", "user", DType.STRING), ("items", "item", DType.INT64)):
        for index, id_ in enumerate(extreme_values.SAMPLES[dtype]):
            tables[name].append({key: id_} | {c.name: _sample(c, index) for c in declared.tables[name][1:]})
    tables["events"] = [
        {name: tables[table][index // 2 % 10][name] for table, name in (("users", "user"), ("items", "item"))}
        | {column.name: _sample(column, index) for column in declared.context}
        | {"timestamp": START + datetime.timedelta(hours=6 * (index // 2)), "scenario": "a", "click": index % 3}
        for index in range(30)
    ]
    return declared, tables


def _sample(column: Column, index: int) -> Any:
    """A sample value of the column, or null, by the index of its row."""
    return [None, *extreme_values.SAMPLES[column.dtype]][index % (1 + len(extreme_values.SAMPLES[column.dtype]))]


@st.composite
def logs(draw: st.DrawFn) -> tuple[Schema, dict[str, list[Row]]]:
    """A schema and its rows: some plain ones of each table, so that every stage has something to do, and drawn ones."""
    user, item = (draw(st.sampled_from([DType.INT64, DType.STRING])) for _ in range(2))
    declared = schema(user, item, nullable=draw(st.booleans()))
    tables: dict[str, list[Row]] = {}
    for name, key, dtype in (("users", "user", user), ("items", "item", item)):
        ids = draw(st.lists(extreme_values.of(dtype), min_size=3, max_size=5, unique=True))
        plain = {f"{key}_{kind}": value for kind, value in PLAIN.items()} | {f"{key}_since": None}
        rows = [{key: ids[0], **plain}]
        tables[name] = rows + [{key: id_, **draw(_values(declared.tables[name][1:]))} for id_ in ids[1:]]
    context = {f"context_{kind}": value for kind, value in PLAIN.items()}
    first: Row = {key: tables[name][0][key] for name, key in (("users", "user"), ("items", "item"))}
    tables["events"] = [
        {
            **first,
            **context,
            "timestamp": START + datetime.timedelta(hours=9 * hour),
            "scenario": "a",
            "click": hour % 2,
        }
        for hour in range(10)
    ]
    for _ in range(draw(st.integers(3, 8))):
        known = (("user", draw(st.sampled_from(tables["users"]))), ("item", draw(st.sampled_from(tables["items"]))))
        chosen: Row = {key: row[key] for key, row in known}
        when = draw(
            st.sampled_from([row["timestamp"] for row in tables["events"]]) | extreme_values.of(DType.TIMESTAMP)
        )
        drawn = draw(_values(declared.context))
        click = draw(st.sampled_from([0, 1, 2, None]))
        tables["events"].append({**chosen, **drawn, "timestamp": when, "scenario": "a", "click": click})
    return declared, tables


def _values(columns: tuple[Column, ...]) -> st.SearchStrategy[Row]:
    """A value of each column; missing ones too, even where none may be missing, and numbers that are not finite."""
    return st.fixed_dictionaries({c.name: st.none() | extreme_values.of(c.dtype) | _infinite(c) for c in columns})


def _infinite(column: Column) -> st.SearchStrategy[Any]:
    infinite: dict[DType, Any] = {DType.FLOAT32: float("inf"), DType.FLOAT32_LIST: [0.0, float("inf"), 1.0]}
    return st.just(infinite[column.dtype]) if column.dtype in infinite else st.nothing()


def as_log(declared: Schema, tables: dict[str, list[Row]]) -> Log:
    """The log as a reader opens it, its events in one chunk; columns of Python objects."""
    frames = {name: pd.DataFrame(rows, dtype=object) for name, rows in tables.items()}
    chunks = lambda: iter([frames["events"]])  # noqa: E731
    return Log(schema=declared, users=frames["users"], items=frames["items"], chunks=chunks)


@contextlib.contextmanager
def project(folder: Path) -> Iterator[None]:
    """`folder` as the current one, with a params.yaml that splits at random."""
    world.write_params(folder, join__split="random", encode__minimum_count=1)
    with contextlib.chdir(folder):
        yield
