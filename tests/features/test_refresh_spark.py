"""Refreshing a Redis by the executors of Spark: what one process writes, and the same errors."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from common.errors import StoreError
from tests.support import spark, world
from tests.support.redis_process import RedisProcess, needs_redis, refresh_redis

pytestmark = [
    pytest.mark.process,
    pytest.mark.usefixtures("without_data_docs"),
    spark.needs_spark,
    needs_redis,
]


@pytest.fixture(scope="module", autouse=True)
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One session for the tests of this file."""
    with spark.spark_session(tmp_path_factory.mktemp("spark")):
        yield


def copy_of(project: Path, folder: Path, engine: dict[str, Any]) -> Path:
    """The features of a project with another engine in params.yaml, in `folder`."""
    shutil.copytree(project / "data/features", folder / "data/features")
    shutil.copy(project / "data/schema.json", folder / "data")
    shutil.copy(project / "params.yaml", folder)
    world.write_engine(folder, engine)
    return folder


def contents(client: "redis.Redis") -> dict[bytes, dict[bytes, bytes]]:
    """Every hash of a database."""
    return {key: client.hgetall(key) for key in client.scan_iter()}


def test_executors_write_what_one_process_writes(project: Path, redis_server: RedisProcess, tmp_path: Path) -> None:
    """Every key and every byte; the next refresh has nothing to write, whoever runs it."""
    stored = {}
    for database, engine in enumerate((spark.DUCKDB, spark.SPARK), start=3):
        copied = copy_of(project, tmp_path / engine["name"], engine)
        address = f"{redis_server.address},db={database}"
        report = refresh_redis(copied, copied, address)
        assert all(view["written"] for view in report["views"].values())
        assert not report["again"]
        with redis.Redis(port=redis_server.port, db=database) as client:
            stored[engine["name"]] = contents(client)
        assert not any(view["written"] for view in refresh_redis(copied, copied, address)["views"].values())
    assert stored["spark"] == stored["duckdb"]
    assert len(stored["duckdb"]) > 20


def test_a_full_redis_is_reported(project: Path, tmp_path: Path) -> None:
    """The error of an executor is that of one process: what is full, and what to do."""
    copied, server = copy_of(project, tmp_path / "copy", spark.SPARK), RedisProcess(tmp_path)
    try:
        server.client.config_set("maxmemory", 1)
        with pytest.raises(StoreError, match=r"the Redis of HINET_REDIS .* is full"):
            refresh_redis(copied, copied, server.address)
    finally:
        server.stop()
