"""Bulk writes: what Feast's own write leaves in SQLite and Redis, to the byte, for every type that a view can have."""

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import OutOfMemoryError

from features.store.incremental import BEGINNING
from tests.support.bulk_rows import COLUMNS, START, check_read, opened, rows, write
from tests.support.redis_process import RedisProcess, needs_redis

pytestmark = pytest.mark.integration


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
