"""Stage: Great Expectations on the online store against the offline store; the gate before the service.

A sample of the entities of each view is read through Feast, as the service does, and compared with the newest
snapshot of each: every value, its type and its nulls, by name. The file of all items that the service keeps in memory
is compared in the same way.
"""

import math
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore

from common import params, stage
from features.engine.arrow_types import arrow_schema
from features.quality import gate
from features.quality.expectations import Rule, expect
from features.quality.gate import Border, Facts, Suite, none_at_all
from features.quality.results import quiet_context
from features.schema import EVENT_TIMESTAMP, Column, DType, Schema, View, read_schema, read_views
from features.store.definitions import open_store
from features.store.item_snapshot import read_snapshot, snapshot_beside

BORDER = Border(
    title="Online store",
    remedy="Fill the online store again (`dvc repro --force materialize`); nothing may write to it beside that.",
)
SEED = 7
_PYTHON = {DType.INT64: int, DType.FLOAT32: float, DType.STRING: str, DType.INT64_LIST: int, DType.STRING_LIST: str}


def inspect_online(*, schema: Path, features: Path, online: Path, report: Path, docs: Path) -> None:
    """Check the SQLite online store `online`, of which a copy is opened, against the views under `features`.

    And the item snapshot beside it. Writes the report and Data Docs in either case; raises ValidationError if a
    critical rule is broken, SnapshotError if the snapshot cannot be read.
    """
    declared, views = read_schema(schema), read_views(features / "views.json")
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / "online.db"
        shutil.copyfile(online, copy)
        registry = Path(scratch) / "registry.db"
        store = open_store(declared, views, features=features, online=copy, registry=registry)
        sample = params.load().inspect.sample
        suites = check_online(store, declared, views, features, sample)
        suites.append(check_snapshot(snapshot_beside(online), declared, views, features, sample))
    gate.conclude(BORDER, suites, name=declared.name, report=report, docs=docs)


def check_online(
    store: FeatureStore,
    schema: Schema,
    views: tuple[View, ...],
    features: Path,
    sample: int,
    *,
    moment: datetime | None = None,
) -> list[Suite]:
    """A suite per view: up to `sample` of its entities in `store` against their newest snapshots under `features`.

    `moment` (UTC) is that up to which the store was filled; None: up to the newest snapshot.
    """
    context, suites = quiet_context(), []
    keys = {column.name: column for column in schema.events}
    for view in views:
        offline = _newest(view, [keys[name] for name in view.keys], features, sample, moment)
        entities = offline.select(view.keys).to_pylist()
        online = _read(store, view, entities)
        facts = (_present(view, entities, online), _values(view, offline, online))
        suites.append(Suite(name=view.name, rows=len(entities), outcomes=gate.judge(context, *facts)))
    return suites


def check_snapshot(
    path: Path, schema: Schema, views: tuple[View, ...], features: Path, sample: int, *, moment: datetime | None = None
) -> Suite:
    """A suite like that of the items' view, on the item snapshot in `path` instead of the online store."""
    (view,) = [view for view in views if view.keys == (schema.item,)]
    rows = read_snapshot(path, schema, views).rows
    keys = [column for column in schema.events if column.name == schema.item]
    offline = _newest(view, keys, features, sample, moment)
    places = pc.index_in(offline[schema.item], value_set=rows[schema.item].combine_chunks())
    held = rows.take(places)
    entities, online = offline.select(view.keys).to_pylist(), {c.name: held[c.name].to_pylist() for c in view.columns}
    facts = (_present(view, entities, online), _values(view, offline, online))
    return Suite(name="item snapshot", rows=len(entities), outcomes=gate.judge(quiet_context(), *facts))


def _newest(view: View, keys: list[Column], features: Path, sample: int, moment: datetime | None) -> pa.Table:
    """The newest snapshot of each of `sample` entities: a draw by hash, the same for the same entities."""
    names = ", ".join(f'"{key}"' for key in view.keys)
    drawn = " || '/' || ".join([f"'{SEED}'", *(f'"{key}"::text' for key in view.keys)])
    moment = None if moment is None else moment.astimezone(UTC).replace(tzinfo=None)
    text = f"""
        with known as (select * from read_parquet($path) where $moment is null or {EVENT_TIMESTAMP} <= $moment),
        drawn as (select distinct {names} from known order by md5({drawn}), {names} limit {sample})
        select * from known semi join drawn using ({names})
        qualify row_number() over (partition by {names} order by {EVENT_TIMESTAMP} desc) = 1 order by {names}"""
    with duckdb.connect(config={"memory_limit": "2GB", "threads": stage.threads()}) as connection:
        path = str(features / f"{view.name}.parquet")
        found = connection.execute(text, {"path": path, "moment": moment}).to_arrow_table()
    types = arrow_schema((*keys, *view.columns))
    return found.select(types.names).cast(types)


def _read(store: FeatureStore, view: View, entities: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The values of every feature of the view, by name: the order of the online store's own is not stable."""
    if not entities:
        return {column.name: [] for column in view.columns}
    wanted = [f"{view.name}:{column.name}" for column in view.columns]
    found = store.get_online_features(features=wanted, entity_rows=entities).to_dict()
    return {column.name: found[column.name] for column in view.columns}


def _present(view: View, entities: list[dict[str, Any]], online: dict[str, list[Any]]) -> Facts:
    """How many entities were compared, and how many of them the online store knows nothing of."""
    absent = [entity for place, entity in enumerate(entities) if all(held[place] is None for held in online.values())]
    facts = {"entities": len(entities), "absent entities": len(absent), "first absent": _first(absent)}
    return Facts(key="view", rows=pa.Table.from_pylist([{"view": view.name} | facts]), rules=tuple(_known(view)))


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
    yield none_at_all(
        "absent entities", ["first absent", "entities"], "Every entity with a snapshot is in the online store"
    )


def _values(view: View, offline: pa.Table, online: dict[str, list[Any]]) -> Facts:
    """The values of each feature that differ from those of the newest snapshot, and those that have another type."""
    entities = offline.select(view.keys).to_pylist()
    facts = [_compare(c, entities, offline[c.name].to_pylist(), online[c.name]) for c in view.columns]
    shown = ["first entity", "online", "offline"]
    rules = (
        none_at_all("online value differs", shown, "Every online value is that of the newest snapshot, nulls too"),
        none_at_all(
            "online value of another type", ["first of another type"], "Every online value has its declared type"
        ),
    )
    texts = {name: pa.string() for name in ("feature", *shown, "first of another type")}
    types = pa.schema(texts | {rule.name: pa.int64() for rule in rules})
    return Facts(key="feature", rows=pa.Table.from_pylist(facts, types), rules=rules)


def _compare(
    column: Column, entities: list[dict[str, Any]], offline: list[Any], online: list[Any]
) -> dict[str, str | int | None]:
    differing = [p for p in range(len(entities)) if _plain(offline[p]) != _plain(online[p])]
    strange = [value for value in online if not _typed(column, value)]
    first = differing[0] if differing else None
    return {
        "feature": column.name,
        "online value differs": len(differing),
        "first entity": None if first is None else _first([entities[first]]),
        "online": None if first is None else str(online[first]),
        "offline": None if first is None else str(offline[first]),
        "online value of another type": len(strange),
        "first of another type": repr(strange[0]) if strange else None,
    }


def _plain(value: Any) -> Any:
    """The value; null for NaN, which means the same in both stores."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _typed(column: Column, value: Any) -> bool:
    wanted = _PYTHON[column.dtype]
    if value is None:
        return True
    return type(value) is wanted if not column.is_list else all(type(element) is wanted for element in value)


def _first(entities: list[dict[str, Any]]) -> str:
    return gate.shown(" ".join(f"{name} {value}" for name, value in entity.items()) for entity in entities)


if __name__ == "__main__":
    stage.run(inspect_online)
