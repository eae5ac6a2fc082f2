"""The fault benchmark: each fault breaks something and is undone, and its result is counted over the right span."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from benchmarks.serving.fault_injection import select_faults, summarize
from benchmarks.serving.fault_targets import FAULTS, RestartableRedis, Targets
from benchmarks.serving.proxy import proxy
from common.errors import ParameterError
from features.store.item_snapshot import item_snapshot_path
from tests.support import tiny_project
from tests.support.load_outcomes import outcomes
from tests.support.redis_process import needs_redis

pytestmark = pytest.mark.process


@pytest.fixture
def copies(project: Path, tmp_path: Path) -> Iterator[Targets]:
    """Copies of the tiny model and its stores, and a Redis behind a proxy that holds one value."""
    model, online = tmp_path / "model", tmp_path / "online.db"
    shutil.copytree(project / tiny_project.MODEL, model)
    shutil.copyfile(project / tiny_project.ONLINE, online)
    shutil.copyfile(item_snapshot_path(project / tiny_project.ONLINE), item_snapshot_path(online))
    with RestartableRedis(tmp_path) as server, proxy(server.port) as between:
        with contextlib.closing(server.client()) as client:
            client.set("kept", "value")
        yield Targets(model, online, server, between)


class StopError(Exception):
    """An error that ends a benchmark during a fault."""


def state_of(copies: Targets) -> list[Any]:
    """What can be read of the targets; raises an error where one is broken."""
    with contextlib.closing(sqlite3.connect(copies.online, timeout=0)) as connection:
        tables = connection.execute("select count(*) from sqlite_master").fetchone()
    with contextlib.closing(redis.Redis(port=copies.proxy.port, socket_timeout=0.5)) as client:
        client.set("written", "again")
        kept = client.get("kept")
    files = [path.read_bytes() for path in (item_snapshot_path(copies.online), copies.model / "weights.safetensors")]
    return [tables, kept, copies.proxy.delay, *files]


@needs_redis
def test_every_fault_breaks_something_and_is_undone_after_an_error(copies: Targets) -> None:
    """However the benchmark ends, the targets are as they were."""
    before = state_of(copies)
    for name, (_, fault) in FAULTS.items():
        with pytest.raises(StopError), fault(copies):  # noqa: PT012 (the error comes during the fault)
            with contextlib.suppress(sqlite3.OperationalError, redis.RedisError):
                assert state_of(copies) != before, f"{name} breaks nothing"
            raise StopError
        assert state_of(copies) == before, name


def test_faults_are_selected_by_words_of_their_names() -> None:
    """Words are separated by commas; a word of no name is an error that lists the names."""
    assert list(select_faults("snapshot, weights,SQLite")) == list(FAULTS)[-3:]
    assert select_faults("") == FAULTS
    with pytest.raises(ParameterError, match=r"--only: no fault is named 'redis'; expected a word of: Redis frozen"):
        select_faults("snapshot,redis")


def test_errors_are_counted_over_the_load_and_degraded_answers_over_the_fault() -> None:
    """A fault from 2 to 5 s is recovered from 2 s later, at the last degraded answer."""
    sent = outcomes(
        status=[503, 200, 200, 200, 0, 200, 200, 200, 200],
        degraded=[False, False, True, True, False, True, False, True, False],
        latency=[1.0, 1.0, 5.0, 6.0, 9.0, 1.0, 1.0, 1.0, 1.0],
    )
    result = summarize("any", sent, 2.0, 5.0, "ready")
    assert (result.requests, result.errors, result.degraded) == (3, 2, 2)
    assert (result.p50, result.longest, result.recovered_after) == (6.0, 9.0, 2.0)
