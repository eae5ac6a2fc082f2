"""The lock of the consumer in a real Redis: one holds it, a dead one is followed, and whoever lost it notices."""

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.exit_status import LOCKED
from serving.events import consumer_lock
from serving.events.consumer_lock import KEY, ConsumerLock, ConsumerRunningError
from tests.support import tiny_project
from tests.support.consumer_process import COMMAND, consumer
from tests.support.redis_cluster import needs_cluster
from tests.support.redis_process import RedisProcess, needs_redis
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, needs_redis]
NEVER = threading.Event()


@pytest.fixture(params=["redis_server", pytest.param("redis_cluster", marks=needs_cluster)])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Redis, or a cluster, without a lock, in which one expires within half a second."""
    for name, seconds in (("EXPIRY", 0.5), ("RENEWAL", 0.05), ("PATIENCE", 1.0), ("PAUSE", 0.05)):
        monkeypatch.setattr(consumer_lock, f"{name}_SECONDS", seconds)
    yield request.getfixturevalue(request.param).address
    lock = ConsumerLock(request.getfixturevalue(request.param).address)
    lock._lock.redis.delete(KEY)


def test_a_second_one_is_refused_while_the_first_renews(address: str) -> None:
    """For longer than the lock lasts by itself; it takes the lock when the first one releases it."""
    first, second = ConsumerLock(address), ConsumerLock(address)
    first.wait(NEVER)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second.wait, NEVER)
        wait_until(lambda: not first.renew() or waiting.done())
        assert first.renew()
    with pytest.raises(ConsumerRunningError, match="HINET_REDIS has a consumer already"):
        waiting.result()
    first.release()
    second.wait(NEVER)
    assert not first._hold()


def test_a_dead_one_is_followed_and_goes_on_no_more(address: str) -> None:
    """Its lock expires within the patience of the next; if it was only slow, it learns that, and releases nothing."""
    first, second = ConsumerLock(address), ConsumerLock(address)
    first.wait(NEVER)
    second.wait(NEVER)
    assert not first._hold()
    first.release()
    assert second._hold()


def test_a_signal_ends_the_waiting(address: str) -> None:
    """Without an error, and without the lock."""
    first, stopped = ConsumerLock(address), threading.Event()
    first.wait(NEVER)
    stopped.set()
    ConsumerLock(address).wait(stopped)
    assert first._hold()


def test_without_a_redis_there_is_no_lock_to_wait_for() -> None:
    """The file beside the queue is the lock."""
    for lock in (ConsumerLock(None), ConsumerLock(None)):
        lock.wait(NEVER)
        assert lock.renew()
        lock.release()


@pytest.mark.slow
def test_there_is_one_consumer_of_a_redis(
    session_project: Path, redis_server: RedisProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with a folder of its own, as on another machine, is refused; after kill -9 the next one takes over."""
    monkeypatch.setenv("HINET_MODEL", str(session_project / tiny_project.MODEL))
    monkeypatch.setenv("HINET_REDIS", redis_server.address)
    other = {"HINET_EVENTS": str(tmp_path / "other")}
    redis_server.client.flushall()
    with consumer(HINET_EVENTS=str(tmp_path / "one")) as (first, _):
        wait_until(lambda: redis_server.client.get(KEY) is not None)
        command, changed = [*COMMAND, "--port", "0"], os.environ | other
        refused = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, env=changed)
        assert refused.returncode == LOCKED, refused.stderr
        assert "the Redis of HINET_REDIS has a consumer already" in refused.stderr
        holder = redis_server.client.get(KEY)
        first.kill()
        first.wait()
    with consumer(**other) as (second, _):
        wait_until(lambda: redis_server.client.get(KEY) not in {holder, None})
        second.terminate()
        assert second.wait(30) == 0
        assert redis_server.client.get(KEY) is None
