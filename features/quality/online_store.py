"""The quality gate of the online store: a sample of it is compared with the offline store.

A sample of the entities of each view is read as the service reads it, and compared with the newest row of each: every
value, its type and its nulls, by name. The item snapshot that the service keeps in memory is compared in the same way.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.compute as pc

from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.engine.session_view import stored_views
from features.quality import gate
from features.quality.datadocs import QualityGate
from features.quality.gate import Measurements, SuiteResult
from features.quality.results import nan_as_null, quiet_context
from features.quality.rule import Rule, expect, expect_zero
from features.schema import EVENT_TIMESTAMP, Column, DType, Schema, View
from features.store.feast_names import feast_name

GATE = QualityGate(
    name="online",
    title="Online store",
    remedy="Fill the online store again (`dvc repro --force materialize`); nothing else may write to it.",
)
SEED = 7
_PYTHON_TYPES = {
    DType.INT64: int,
    DType.FLOAT32: float,
    DType.STRING: str,
    DType.INT64_LIST: int,
    DType.STRING_LIST: str,
    DType.FLOAT32_LIST: float,
}
Entities = list[dict[str, Any]]  # the join keys of each
Values = dict[str, list[Any]]  # of each feature, by its name: one per entity


class OnlineFeatures(Protocol):
    """What an online store, as Feast opens it, is needed for here."""

    def get_online_features(self, features: list[str], entity_rows: Entities) -> Any:
        """The values of `features` for each of the entities."""


def check_online(
    store: OnlineFeatures,
    schema: Schema,
    views: tuple[View, ...],
    features: Path,
    sample: int,
    *,
    as_of: datetime | None = None,
) -> list[SuiteResult]:
    """A suite per view: the online values of a sample of its entities against their newest offline rows.

    Args:
        store: The online store, opened by Feast.
        schema: Declaration of the data set.
        views: The views that the store holds.
        features: Folder of the views' Parquet files (the offline store).
        sample: Number of entities of each view, at most.
        as_of: Timestamp (UTC) up to which the store is materialized; None: up to the newest row.
    """
    context, suites = quiet_context(), []
    keys = {column.name: column for column in schema.events}
    for view in stored_views(schema, views):
        offline = _newest(view, [keys[name] for name in view.keys], features, sample, as_of)
        entities = offline.select(view.keys).to_pylist()
        online = _read(store, view, entities)
        measurements = (_present(view, entities, online), _values(view, offline, online))
        suites.append(SuiteResult(name=view.name, rows=len(entities), outcomes=gate.evaluate(context, *measurements)))
    return suites


def check_snapshot(
    items: pa.Table,
    schema: Schema,
    views: tuple[View, ...],
    features: Path,
    sample: int,
    *,
    as_of: datetime | None = None,
) -> SuiteResult:
    """A suite like that of the items' view, on the rows of the item snapshot instead of the online store.

    Args:
        items: The rows of the item snapshot.
        schema: Declaration of the data set.
        views: The views that the store holds.
        features: Folder of the views' Parquet files (the offline store).
        sample: Number of items, at most.
        as_of: Timestamp (UTC) up to which the snapshot was written; None: up to the newest row.
    """
    (view,) = [view for view in views if view.keys == (schema.item,)]
    keys = [column for column in schema.events if column.name == schema.item]
    offline = _newest(view, keys, features, sample, as_of)
    rows = items.take(pc.index_in(offline[schema.item], value_set=items[schema.item].combine_chunks()))
    entities, online = offline.select(view.keys).to_pylist(), {c.name: rows[c.name].to_pylist() for c in view.columns}
    measurements = (_present(view, entities, online), _values(view, offline, online))
    return SuiteResult(name="item snapshot", rows=len(entities), outcomes=gate.evaluate(quiet_context(), *measurements))


def _newest(view: View, keys: list[Column], features: Path, sample: int, as_of: datetime | None) -> pa.Table:
    """The newest row of each of `sample` entities, drawn by hash: the same ones for the same entities."""
    names = sql.columns(view.keys)
    drawn = " || '/' || ".join([f"'{SEED}'", *(f"{sql.column(key)}::text" for key in view.keys)])
    naive = None if as_of is None else as_of.astimezone(UTC).replace(tzinfo=None)
    query = f"""
        with __known as (
            select * from {sql.parquet(features / f"{view.name}.parquet")}
            where $as_of is null or {EVENT_TIMESTAMP} <= $as_of),
        __drawn as (select distinct {names} from __known order by md5({drawn}), {names} limit {sample})
        select * from __known semi join __drawn using ({names})
        qualify row_number() over (partition by {names} order by {EVENT_TIMESTAMP} desc) = 1 order by {names}"""
    with connect() as connection:
        rows = connection.execute(query, {"as_of": naive}).to_arrow_table()
    types = arrow_schema((*keys, *view.columns))
    return rows.select(types.names).cast(types)


def _read(store: OnlineFeatures, view: View, entities: Entities) -> Values:
    """The values of every feature of the view, by name: the online store returns them in no stable order."""
    if not entities:
        return {column.name: [] for column in view.columns}
    names = [f"{view.name}:{feast_name(column.name)}" for column in view.columns]
    keys = [{feast_name(name): value for name, value in entity.items()} for entity in entities]
    values = store.get_online_features(features=names, entity_rows=keys).to_dict()
    return {column.name: values[feast_name(column.name)] for column in view.columns}


def _present(view: View, entities: Entities, online: Values) -> Measurements:
    """How many entities were compared, and how many of them have no value in the online store."""
    absent = [entity for i, entity in enumerate(entities) if all(values[i] is None for values in online.values())]
    measurements = {"entities": len(entities), "absent entities": len(absent), "first absent": _first(absent)}
    return Measurements(
        key="view", rows=pa.Table.from_pylist([{"view": view.name} | measurements]), rules=tuple(_known(view))
    )


def _known(view: View) -> Iterator[Rule]:
    yield expect(
        gxe.ExpectColumnValuesToBeBetween,
        "row",
        "nothing to compare",
        ["entities"],
        f"The view {view.name} has at least one entity",
        severity="warning",
        column="entities",
        min_value=1,
    )
    yield expect_zero(
        "absent entities", ["first absent", "entities"], "Every entity with a snapshot is in the online store"
    )


def _values(view: View, offline: pa.Table, online: Values) -> Measurements:
    """The values of each feature that differ from those of the newest row, and those that have another type."""
    entities = offline.select(view.keys).to_pylist()
    measurements = [_compare(c, entities, offline[c.name].to_pylist(), online[c.name]) for c in view.columns]
    shown = ["first entity", "online", "offline"]
    rules = (
        expect_zero("online value differs", shown, "Every online value is that of the newest snapshot, nulls too"),
        expect_zero(
            "online value of another type", ["first of another type"], "Every online value has its declared type"
        ),
    )
    texts = {name: pa.string() for name in ("feature", *shown, "first of another type")}
    types = pa.schema(texts | {rule.name: pa.int64() for rule in rules})
    return Measurements(key="feature", rows=pa.Table.from_pylist(measurements, types), rules=rules)


def _compare(column: Column, entities: Entities, offline: list[Any], online: list[Any]) -> dict[str, str | int | None]:
    differing = [i for i in range(len(entities)) if nan_as_null(offline[i]) != nan_as_null(online[i])]
    mistyped = [value for value in online if not _has_type(column, value)]
    first = differing[0] if differing else None
    return {
        "feature": column.name,
        "online value differs": len(differing),
        "first entity": None if first is None else _first([entities[first]]),
        "online": None if first is None else str(online[first]),
        "offline": None if first is None else str(offline[first]),
        "online value of another type": len(mistyped),
        "first of another type": repr(mistyped[0]) if mistyped else None,
    }


def _has_type(column: Column, value: Any) -> bool:
    expected = _PYTHON_TYPES[column.dtype]
    if value is None:
        return True
    if column.is_list or column.is_vector:
        return all(type(element) is expected for element in value)
    return type(value) is expected


def _first(entities: Entities) -> str:
    return gate.first_few(" ".join(f"{name} {value}" for name, value in entity.items()) for entity in entities)
