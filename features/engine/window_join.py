"""The point-in-time join as one portable statement per view: for an engine without an as-of join.

The rows of both sides are put in one order, in which the newest row of the view up to each impression is the last value
that is not null. The features of a row are one value, so that a feature which is null there stays null. An equal
timestamp is the past, as in features/store/asof_join.py.
"""

from collections.abc import Iterable
from pathlib import Path

from features.engine import sql
from features.engine.protocol import Engine
from features.schema import EVENT_TIMESTAMP, Schema, View


def define_training_rows(engine: Engine, schema: Schema, views: Iterable[View], *, events: Path, features: Path) -> str:
    """Define the impressions with their features as of their timestamp; returns the name of the relation.

    Args:
        engine: Where the relations are defined.
        schema: Declaration of the data set.
        views: Feature views to join.
        events: Folder of the validated events, one folder per day.
        features: Folder of the views' Parquet files.
    """
    joined, names = "__impressions", [column.name for column in schema.events]
    engine.read(joined, events, "*/*.parquet")
    for view in views:
        engine.read(f"__view_{view.name}", features / f"{view.name}.parquet")
        engine.define(f"__with_{view.name}", join_view(joined, names, schema.timestamp, view))
        joined = f"__with_{view.name}"
        names += [column.name for column in view.columns]
    return joined


def join_view(rows: str, names: Iterable[str], timestamp: str, view: View) -> str:
    """SQL: the columns `names` of the relation `rows`, and the features of the relation of a view as of `timestamp`."""
    names = list(names)
    shared = {*view.keys, timestamp}
    others = [sql.column(name) for name in names if name not in shared]
    features = [sql.column(column.name) for column in view.columns]
    keys, at = sql.columns(view.keys), sql.column(timestamp)
    return f"""
        with __both as (
            select {", ".join([keys, at, *others])}, 1 as __side, null as __features from {rows}
            union all
            select {", ".join([keys, f"{EVENT_TIMESTAMP} as {at}", *(f"null as {name}" for name in others)])},
                0 as __side, struct_pack({", ".join(f"{name} := {name}" for name in features)}) as __features
            from __view_{view.name}),
        __filled as (
            select {sql.columns(names)}, __side, last_value(__features ignore nulls) over (
                partition by {keys} order by {at}, __side rows between unbounded preceding and current row
            ) as __newest
            from __both)
        select {sql.columns(names)}, {", ".join(f"__newest.{name} as {name}" for name in features)}
        from __filled where __side = 1"""


def join_by_event(engine: Engine, rows: str, view: View, event_id: str, path: Path) -> str:
    """Define the relation `rows` with the columns of a view by event id in the file `path`; returns its name."""
    source, joined, key = f"__rows_of_{view.name}", f"__with_{view.name}", sql.column(event_id)
    engine.read(source, path)
    columns = ", ".join(f"{source}.{sql.column(column.name)}" for column in view.columns)
    engine.define(joined, f"select {rows}.*, {columns} from {rows} left join {source} on {rows}.{key} = {source}.{key}")
    return joined
