"""A tiny world with known answers: the schema and the rows that the tests share."""

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd

from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml
from features.schema import Column, DType, Kind, Role, Schema, Task, to_json

START = pd.Timestamp("2026-01-05")


def schema(*, scenarios: tuple[str, ...] = ("feed", "search", "channel")) -> Schema:
    """A log with every kind of column, three scenarios, and order only after click."""
    events = (
        Column(name="event_id", role=Role.EVENT_ID, dtype=DType.INT64),
        Column(name="timestamp", role=Role.TIMESTAMP, dtype=DType.TIMESTAMP),
        Column(name="user_id", role=Role.USER, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="item_id", role=Role.ITEM, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="scenario", role=Role.SCENARIO, dtype=DType.STRING, kind=Kind.CATEGORICAL, values=scenarios),
        Column(name="hour", role=Role.FEATURE, dtype=DType.INT64, kind=Kind.CATEGORICAL, minimum=0, maximum=23),
        Column(name="click", role=Role.LABEL, dtype=DType.INT8, values=(0, 1)),
        Column(name="order", role=Role.LABEL, dtype=DType.INT8, values=(0, 1), nullable=True),
    )
    users = (
        Column(name="user_id", role=Role.USER, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="registered_at", role=Role.KNOWN_AT, dtype=DType.TIMESTAMP),
        Column(name="city", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, nullable=True),
    )
    items = (
        Column(name="item_id", role=Role.ITEM, dtype=DType.INT64, kind=Kind.CATEGORICAL),
        Column(name="listed_at", role=Role.KNOWN_AT, dtype=DType.TIMESTAMP),
        Column(
            name="price",
            role=Role.FEATURE,
            dtype=DType.FLOAT32,
            kind=Kind.NUMERIC,
            minimum=0,
            maximum=1000,
            nullable=True,
            log=True,
        ),
        Column(name="tags", role=Role.FEATURE, dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=3),
    )
    tasks = (Task(name="click"), Task(name="order", requires="click"))
    return Schema(name="tiny", scenarios=scenarios, tasks=tasks, events=events, users=users, items=items)


def tables(
    *, rows: int = 400, users: int = 12, items: int = 9, days: int = 6, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Valid events, users and items of `schema()`, sorted by timestamp; every rule of the schema holds.

    The click rate is 60 % where user and item are both odd or both even and 15 % elsewhere; half of the
    clicks in `search` are orders, a tenth elsewhere.
    """
    random = np.random.default_rng(seed)
    return {
        "events": _events(random, rows, users, items, days),
        "users": pd.DataFrame(
            {
                "user_id": np.arange(users),
                "registered_at": START - pd.to_timedelta(random.integers(0, 100, users), unit="D"),
                "city": pd.Series(random.choice(["north", "south", None], users), dtype=object),
            }
        ),
        "items": pd.DataFrame(
            {
                "item_id": np.arange(items),
                "listed_at": START - pd.to_timedelta(random.integers(0, 100, items), unit="D"),
                "price": random.uniform(1, 100, items).astype("float32"),
                "tags": [
                    list(random.choice(["hot", "new", "sale", "spicy"], n, replace=False))
                    for n in random.integers(0, 4, items)
                ],
            }
        ),
    }


def _events(random: np.random.Generator, rows: int, users: int, items: int, days: int) -> pd.DataFrame:
    seconds = np.sort(random.integers(0, days * 86_400, rows))
    timestamp = START + pd.to_timedelta(seconds, unit="s")
    user, item = random.integers(0, users, rows), random.integers(0, items, rows)
    scenario = random.choice(["feed", "search", "channel"], rows, p=[0.6, 0.3, 0.1])
    click = (random.random(rows) < np.where(user % 2 == item % 2, 0.6, 0.15)).astype("int8")
    order = click * (random.random(rows) < np.where(scenario == "search", 0.5, 0.1)).astype("int8")
    return pd.DataFrame(
        {
            "event_id": np.arange(rows),
            "timestamp": timestamp.astype("datetime64[us]"),
            "user_id": user,
            "item_id": item,
            "scenario": scenario,
            "hour": timestamp.hour.to_numpy(dtype="int64"),
            "click": click,
            "order": order,
        }
    )


def write_validated(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    """Write `tables` as `validate` would: events by day, users, items; returns the folder."""
    for day, events in tables["events"].groupby(tables["events"]["timestamp"].dt.date):
        _write(folder / "events" / f"day={day}" / "part-0.parquet", events)
    for name in ("users", "items"):
        _write(folder / f"{name}.parquet", tables[name])
    return folder


def _write(path: Path, frame: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path, index=False, coerce_timestamps="us", allow_truncated_timestamps=True)


def write_params(folder: Path, **changes: object) -> None:
    """The project's params.yaml in `folder`, with changes by dotted name (`aggregate__windows=[1]`)."""
    plain = read_yaml(ROOT / "params.yaml")
    for name, value in changes.items():
        section, key = name.split("__")
        plain[section][key] = value
    (folder / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")


def write_engine(folder: Path, engine: dict[str, object]) -> None:
    """Change the section `engine` of the params.yaml in `folder`."""
    path = folder / "params.yaml"
    path.write_text(dump_yaml({**read_yaml(path), "engine": engine}), encoding="utf-8")


def write_features(
    folder: Path, tables: dict[str, pd.DataFrame], declared: Schema | None = None, **changes: object
) -> Path:
    """Write `tables` as validated data with their schema, and run `aggregate` on them; returns the folder.

    `changes` are those of `write_params`.
    """
    from features.aggregate import aggregate  # DuckDB, which the schema alone does not need

    write_validated(folder / "validated", tables)
    (folder / "schema.json").write_text(to_json(declared or schema()))
    write_params(folder, **changes)
    with contextlib.chdir(folder):
        aggregate(schema=Path("schema.json"), validated=Path("validated"), out=Path("features"))
    return folder


def section(name: str) -> dict:
    """One section of the project's params.yaml."""
    return read_yaml(ROOT / "params.yaml")[name]
