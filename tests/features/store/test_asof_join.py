"""The as-of join: equal to a loop over all rows and to Feast's own join, on random small worlds."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
from feast.infra.offline_stores.ibis import point_in_time_join
from feast.types import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from features.store.asof_join import ViewRows, asof_join
from features.store.definitions import configured_store
from features.store.ibis_backend import set_ibis_backend
from features.store.parquet_store import ParquetOfflineStore
from tests.support.examples import examples

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 5)
TIMES = st.integers(0, 8).map(lambda hour: START + timedelta(hours=hour))
IDS = st.none() | st.integers(0, 2)
TTLS = st.sampled_from([None, timedelta(0), timedelta(hours=1), timedelta(hours=3)])
ENTITIES = pa.schema([("user", pa.int64()), ("scenario", pa.string()), ("event_timestamp", pa.timestamp("us"))])
Row = dict[str, Any]


@st.composite
def views(draw: st.DrawFn, name: str, keys: tuple[str, ...]) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of a view and its settings; rows of one entity and timestamp differ in their creation."""
    ids = {"user": IDS, "scenario": st.sampled_from(["a", "b"])}
    has_created = draw(st.booleans())
    fields: dict[str, Any] = {key: ids[key] for key in keys} | {"at": TIMES}
    fields |= {"made": st.none() | TIMES} if has_created else {}
    rows = draw(st.lists(st.fixed_dictionaries(fields), max_size=12, unique_by=lambda row: tuple(row.values())))
    for number, row in enumerate(rows):
        row[name] = draw(st.sampled_from([None, number]))  # a null that was written stays a null
    types = [(key, ENTITIES.field(key).type) for key in keys] + [("at", pa.timestamp("us"))]
    types += [("made", pa.timestamp("us"))] if has_created else []
    table = pa.Table.from_pylist(rows, pa.schema([*types, (name, pa.int64())]))
    return table, {"keys": keys, "feature": name, "created": "made" if has_created else None, "ttl": draw(TTLS)}


def by_loop(row: Row, table: pa.Table, view: dict[str, Any]) -> object:
    """The feature of `row` by a loop over all rows of the view."""
    at, ttl = row["event_timestamp"], view["ttl"]
    past = [
        one
        for one in table.to_pylist()
        if all(one[key] == row[key] and row[key] is not None for key in view["keys"])
        and at is not None
        and one["at"] <= at
        and (not ttl or at <= one["at"] + ttl)
    ]
    newest = max(past, key=lambda one: (one["at"], one.get("made") or datetime.min), default={})
    return newest.get(view["feature"])


def by_feast(rows: pa.Table, worlds: list[tuple[pa.Table, dict[str, Any]]]) -> list[Row]:
    """The same rows joined by Feast's own join."""
    zone = ibis.dtype("timestamp('UTC', 6)")
    tables = []
    for table, view in worlds:
        own = ibis.memtable(table)
        own = own.mutate(at=own["at"].cast(zone), **({"made": own["made"].cast(zone)} if view["created"] else {}))
        keys = {key: key for key in view["keys"]}
        tables.append((own, "at", view["created"], keys, [view["feature"]], view["ttl"]))
    joined = point_in_time_join(ibis.memtable(rows), tables, "event_timestamp")
    return joined.order_by("id").to_pyarrow().to_pylist()


@settings(max_examples=examples(60), deadline=None)
@given(
    drawn=st.lists(st.tuples(IDS, st.sampled_from(["a", "b"]), st.none() | TIMES), min_size=1, max_size=12),
    first=views("of_user", ("user",)),
    second=views("of_pair", ("user", "scenario")),
)
def test_every_row_gets_what_a_loop_and_feast_give_it(
    drawn: list[tuple[Any, ...]], first: tuple[pa.Table, Row], second: tuple[pa.Table, Row]
) -> None:
    """Repeated and missing entities, equal timestamps, creations, nulls, empty views, TTLs to their very end."""
    rows = pa.Table.from_pylist([dict(zip(ENTITIES.names, row, strict=True)) for row in drawn], ENTITIES)
    rows = rows.append_column("id", pa.array(range(len(drawn))))
    worlds = [first, second]
    joins = [
        ViewRows(
            table=ibis.memtable(table),
            keys={key: key for key in view["keys"]},
            features={view["feature"]: view["feature"]},
            timestamp="at",
            created=view["created"],
            ttl=view["ttl"],
        )
        for table, view in worlds
    ]
    actual = asof_join(ibis.memtable(rows), joins, "event_timestamp").order_by("id").to_pyarrow().to_pylist()
    expected = [
        row | {view["feature"]: by_loop(row, table, view) for table, view in worlds} for row in rows.to_pylist()
    ]
    assert actual == expected
    assert by_feast(rows, worlds) == expected


@pytest.mark.parametrize("name", ["self", "cls", "columns", "table", "on", "predicates", "at_", "name"])
def test_a_feature_may_have_the_name_of_an_argument(name: str) -> None:
    """What is a keyword of Ibis or of Python is a column like any other."""
    of_user = pa.table({"user": [1], "at": pa.array([START]), name: [7]})
    rows = pa.table({"user": [1, 2], "event_timestamp": pa.array([START, START])})
    view = ViewRows(
        table=ibis.memtable(of_user),
        keys={"user": "user"},
        features={name: name},
        timestamp="at",
        created=None,
        ttl=None,
    )
    joined = asof_join(ibis.memtable(rows), [view], "event_timestamp").order_by("user").to_pyarrow()
    assert joined[name].to_pylist() == [7, None]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A repository with a view that has a TTL, a creation and a renamed column, of the settings of the pipeline."""
    folder = tmp_path_factory.mktemp("repository")
    hours = [0, 0, 3, 5]
    frame = pd.DataFrame(
        {
            "user": [1, 1, 1, 2],
            "event_timestamp": [pd.Timestamp(START) + pd.Timedelta(hours=hour) for hour in hours],
            "made": [pd.Timestamp(START) + pd.Timedelta(hours=hour) for hour in [2, 1, 9, 5]],
            "raw": [10, 11, 12, 13],
        }
    )
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / "rows.parquet")
    user = Entity(name="user", join_keys=["user"], value_type=ValueType.INT64)
    view = FeatureView(
        name="history",
        entities=[user],
        ttl=timedelta(hours=4),
        schema=[Field(name="user", dtype=Int64), Field(name="price", dtype=Int64)],
        source=FileSource(
            path=str(folder / "rows.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="made",
            field_mapping={"raw": "price"},
        ),
    )
    opened = configured_store(str(folder / "registry.db"), online=folder / "online.db", redis=None)
    opened.apply([user, view])
    return opened


ROWS = pd.DataFrame(
    {
        "user": [1, 1, 1, 2, 3, 1],
        "event_timestamp": [pd.Timestamp(START) + pd.Timedelta(hours=hour) for hour in [0, 4, 7, 4, 6, 8]],
    }
)
ZONES = {
    "without a zone": ROWS,
    "in UTC": ROWS.assign(event_timestamp=ROWS["event_timestamp"].dt.tz_localize("UTC")),
    "in another zone": ROWS.assign(
        event_timestamp=ROWS["event_timestamp"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    ),
    "as text": ROWS.assign(event_timestamp=ROWS["event_timestamp"].astype(str)),
}


@pytest.mark.parametrize("form", ZONES)
@pytest.mark.parametrize("full_names", [False, True])
@pytest.mark.parametrize("by_creation", [False, True])
def test_a_notebook_gets_what_feasts_own_store_gives(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, form: str, full_names: bool, by_creation: bool
) -> None:
    """Whatever zone the timestamps have, and with each option of Feast: values, types and columns are equal."""

    def read() -> pd.DataFrame:
        job = store.get_historical_features(
            ZONES[form].copy(), ["history:price"], full_names, filter_by_created_timestamp=by_creation
        )
        return job.to_df().sort_values(["user", "event_timestamp"]).reset_index(drop=True)

    actual = read()
    feasts_own = DuckDBOfflineStore.get_historical_features
    with monkeypatch.context() as patch:
        patch.setattr(ParquetOfflineStore, "get_historical_features", staticmethod(feasts_own))
        pd.testing.assert_frame_equal(actual, read())
    first = actual.iloc[:2, -1].fillna(0).tolist()
    assert first == ([0, 10] if by_creation else [10, 12])  # what is 10 now was unknown at first


def test_a_query_is_joined_like_the_frame_that_it_returns(store: FeatureStore, tmp_path: Path) -> None:
    """Feast takes a query in place of a data frame; the metadata of the job name the features."""
    ROWS.to_parquet(tmp_path / "rows.parquet")
    job = store.get_historical_features(f"select * from '{tmp_path / 'rows.parquet'}'", ["history:price"])
    actual = job.to_df().sort_values(["user", "event_timestamp"])["price"].tolist()
    assert [None if value != value else value for value in actual] == [10, 12, 12, None, None, None]
    assert job.metadata.features == ["history:price"]


def test_an_arrow_table_is_never_joined_by_a_nested_loop() -> None:
    """After a join the plan of the next one is that for many rows, though DuckDB does not know how many there are."""
    set_ibis_backend()
    asof_join(ibis.memtable(ROWS), [], "event_timestamp")
    connection: duckdb.DuckDBPyConnection = ibis.get_backend().con
    connection.register("rows", pa.Table.from_pandas(ROWS))
    query = 'explain select * from rows asof left join rows other using ("user", event_timestamp)'
    (row,) = connection.execute(query).fetchall()
    assert "ASOF_JOIN" in row[1]
