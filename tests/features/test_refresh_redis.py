"""Refreshing a Redis: incrementally, with errors that can be acted upon, and continued after them."""

import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from common.errors import StoreError
from common.exit_status import LOCKED
from features.store.incremental import Watermark
from features.store.item_snapshot import item_snapshot_path
from features.store.online_store import WATERMARK, StoreUnavailableError, state_dir
from tests.support.redis_process import NEWEST, RedisProcess, needs_redis, refresh_redis

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_data_docs")]


@needs_redis
def test_a_refresh_of_redis_writes_only_what_is_new(project: Path, redis_server: RedisProcess, tmp_path: Path) -> None:
    """Incrementally as with SQLite: a second run writes nothing, a revised value of the same timestamp is written."""
    database = f"{redis_server.address},db=1"
    copied = tmp_path / "project"
    shutil.copytree(project / "data/features", copied / "data/features")
    shutil.copy(project / "data/schema.json", copied / "data")
    shutil.copy(project / "params.yaml", copied)
    first = refresh_redis(copied, tmp_path, database, datetime(2026, 1, 8, 12, tzinfo=UTC))
    assert all(view["written"] for view in first["views"].values())
    assert refresh_redis(copied, tmp_path, database)["whole"] is False
    assert not any(view["written"] for view in refresh_redis(copied, tmp_path, database)["views"].values())
    path = copied / "data/features/item.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table rows as select * replace (price + 1 as price) from '{path}'")
        connection.execute(f"copy rows to '{path}' (format parquet)")
    again = refresh_redis(copied, tmp_path, database)
    assert (again["views"]["item"]["written"], again["again"]) == (9, False)
    assert item_snapshot_path(tmp_path / "online.db").exists()


@needs_redis
def test_a_refresh_of_an_unreachable_redis_can_be_run_later(project: Path, tmp_path: Path) -> None:
    """The error names HINET_REDIS, and its exit status means: run the same command later."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailableError, match="the Redis of HINET_REDIS") as error:
            refresh_redis(project, tmp_path, f"127.0.0.1:{free.getsockname()[1]}")
    assert error.value.exit_status == LOCKED


@needs_redis
def test_a_full_redis_is_reported_and_the_refresh_can_be_continued(project: Path, tmp_path: Path) -> None:
    """Without memory, watermark and snapshot stay as they are; with memory the next run writes what is missing."""
    server = RedisProcess(tmp_path)
    try:
        refresh_redis(project, tmp_path, server.address, datetime(2026, 1, 8, 12, tzinfo=UTC))
        online = tmp_path / "online.db"
        before, items = Watermark.read(state_dir(online) / WATERMARK), item_snapshot_path(online).read_bytes()
        server.client.config_set("maxmemory", 1)
        with pytest.raises(
            StoreError, match=rf"{server.address}\) is full: expected space for \d+ rows of the view \w+"
        ):
            refresh_redis(project, tmp_path, server.address)
        after = Watermark.read(state_dir(online) / WATERMARK)
        assert (after.views, after.declared, after.begun) == (before.views, before.declared, NEWEST)
        assert item_snapshot_path(online).read_bytes() == items
        server.client.config_set("maxmemory", 0)
        report = refresh_redis(project, tmp_path, server.address)
        assert (report["whole"], report["again"]) == (False, False), "it continued with what was missing"
        assert item_snapshot_path(online).read_bytes() != items
    finally:
        server.stop()
