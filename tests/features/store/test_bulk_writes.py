"""Bulk writes: what Feast's own write leaves in SQLite and Redis, to the byte, for every type that a view can have."""

import contextlib
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore, FeatureView
from redis import OutOfMemoryError

from features.schema import Column, DType, Kind, Role, View
from features.store.arrow_engine import to_rows
from features.store.bulk_writes import write_batch
from features.store.definitions import open_store
from features.store.incremental import BEGINNING
from tests.support import world
from tests.support.redis_process import RedisProcess, needs_redis

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 5, 0, 30, 0, 250_000)
VALUES: dict[DType, tuple[pa.DataType, list[Any]]] = {
    DType.INT64: (pa.int64(), [0, -1, 2**53 + 1, None]),
    DType.FLOAT32: (pa.float32(), [0.1, float("nan"), -0.0, None]),
    DType.STRING: (pa.string(), ["", "it's", "京", None]),
    DType.INT64_LIST: (pa.list_(pa.int64()), [[], [1, -(2**62)], [0], None]),
    DType.FLOAT32_LIST: (pa.list_(pa.float32()), [[], [0.5, -1.5], [0.0], None]),
    DType.STRING_LIST: (pa.list_(pa.string()), [[], ["", "a"], ["京"], None]),
}
KINDS = dict(
    zip(VALUES, (Kind.NUMERIC, Kind.NUMERIC, Kind.CATEGORICAL, Kind.SEQUENCE, Kind.VECTOR, Kind.SEQUENCE), strict=True)
)
COLUMNS = tuple(
    Column(name=f"of_{dtype.value}", role=Role.FEATURE, dtype=dtype, kind=kind, nullable=True, length=2)
    for dtype, kind in KINDS.items()
)
VIEW = View(name="pair", keys=("user_id", "scenario"), columns=COLUMNS)


def rows(*, first: int = 0) -> pa.RecordBatch:
    """One row per entity, each value of every type at some entity; `first` shifts them."""
    columns = {
        "user_id": pa.array([1, 256, -5, 2**40]),
        "scenario": pa.array(["feed", "search", "feed", "channel"]),
        "event_timestamp": pa.array([START + timedelta(hours=n - 10**6 * (n == 2)) for n in range(4)]),
    }
    for column, (kind, values) in zip(COLUMNS, VALUES.values(), strict=True):
        columns[column.name] = pa.array(values[first:] + values[:first], kind)
    return pa.record_batch(columns)


def opened(folder: Path, redis: str | None = None) -> tuple[FeatureStore, FeatureView]:
    """An empty store with the view, whose rows are those of the offline store, too."""
    pq.write_table(pa.Table.from_batches([rows()]), folder / "pair.parquet")
    online, registry = folder / "online.db", folder / "registry.db"
    store = open_store(world.schema(), (VIEW,), features=folder, online=online, registry=registry, redis=redis)
    return store, store.get_feature_view("pair")


def write(store: FeatureStore, view: FeatureView, batch: pa.RecordBatch, *, bulk: bool) -> None:
    """Write a batch, in bulk or as Feast does."""
    online = store._get_provider().online_store
    if bulk:
        write_batch(online, store.config, view, batch)
    else:
        online.online_write_batch(store.config, view, to_rows(view, batch), None)


def in_sqlite(online: Path) -> list[tuple[Any, ...]]:
    """Every row of the table, every column of it, and the definitions of table and index."""
    with contextlib.closing(sqlite3.connect(online)) as connection:
        stored = connection.execute("select * from hinet_pair order by entity_key, feature_name").fetchall()
        return stored + connection.execute("select name, sql from sqlite_master order by name").fetchall()


def test_sqlite_holds_what_feast_writes(tmp_path: Path) -> None:
    """Of new entities, and of those whose values are replaced: keys, values, texts and timestamps are equal."""
    stored = []
    for bulk in (True, False):
        folder = tmp_path / str(bulk)
        folder.mkdir()
        store, view = opened(folder)
        write(store, view, rows(), bulk=bulk)
        write(store, view, rows(first=1).slice(1, 2), bulk=bulk)
        stored.append(in_sqlite(folder / "online.db"))
    assert stored[0] == stored[1]
    assert len(stored[0]) > 4 * len(COLUMNS)


def test_feast_reads_what_was_materialized(tmp_path: Path) -> None:
    """Through the engine, `get_online_features` gives every value of the Parquet file; a NaN is a missing number."""
    store, _ = opened(tmp_path)
    store.materialize(BEGINNING, START + timedelta(days=9))
    check_read(store)


def check_read(store: FeatureStore) -> None:
    """The values that Feast reads are those of `rows()`."""
    batch = rows()
    entities = [{name: row[name] for name in VIEW.keys} for row in batch.to_pylist()]
    read = store.get_online_features([f"pair:{column.name}" for column in COLUMNS], entities).to_dict()
    for column in COLUMNS:
        written = [None if value != value else value for value in batch.column(column.name).to_pylist()]
        assert read[column.name] == written, column.name


@needs_redis
@pytest.mark.process
def test_redis_holds_what_feast_writes(redis_server: RedisProcess, tmp_path: Path) -> None:
    """Keys, fields and bytes are equal, and Feast reads every value."""
    redis_server.client.flushall()
    stored = []
    for database, bulk in enumerate((True, False)):
        folder = tmp_path / str(bulk)
        folder.mkdir()
        store, view = opened(folder, f"{redis_server.address},db={database}")
        write(store, view, rows(first=1), bulk=bulk)
        write(store, view, rows(), bulk=bulk)
        check_read(store)
        client = store._get_provider().online_store._get_client(store.config.online_store)
        stored.append({key: client.hgetall(key) for key in client.scan_iter()})
    assert stored[0] == stored[1]
    assert len(stored[0]) == 4


@needs_redis
@pytest.mark.process
def test_a_refused_command_leaves_no_replies_behind(redis_server: RedisProcess, tmp_path: Path) -> None:
    """Of a batch that Redis refuses the error is raised, and the next command of the client gets its own reply."""
    store, view = opened(tmp_path, f"{redis_server.address},db=2")
    client = store._get_provider().online_store._get_client(store.config.online_store)
    redis_server.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(OutOfMemoryError):
            write(store, view, rows(), bulk=True)
        assert client.ping() is True
    finally:
        redis_server.client.config_set("maxmemory", 0)
