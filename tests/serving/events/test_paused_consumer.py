"""A consumer that stands still for longer than its lock lasts, and then writes: no event of the next one is lost."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from common.params import SessionFeatures
from features.session.events import merge
from features.store.live_sessions import LiveSessions, open_live_store
from features.store.redis_client import redis_client
from serving.events import consumer as consumers
from serving.events.consumer import Consumer, parse
from serving.events.queues import open_queue
from tests.support import session_log
from tests.support.redis_cluster import needs_cluster
from tests.support.redis_process import needs_redis

pytestmark = pytest.mark.integration
SCHEMA, VIEW = session_log.SCHEMA, session_log.view_of(SessionFeatures(events=500))


@pytest.fixture(
    params=[
        "file",
        pytest.param("redis_server", marks=needs_redis),
        pytest.param("redis_cluster", marks=needs_cluster),
    ]
)
def address(request: pytest.FixtureRequest) -> str | None:
    """The Redis of queue and states, which is empty, or None: then they are files."""
    if request.param == "file":
        return None
    server: str = request.getfixturevalue(request.param).address
    with closing(redis_client(server)) as client:
        client.flushall()
    return server


class Paused(LiveSessions):
    """Stands still between what it reads and what it writes, where `read` is set, until `go_on` is."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.has_read, self.go_on = threading.Event(), threading.Event()

    def _push(self, *arguments: Any) -> None:
        self.has_read.set()
        assert self.go_on.wait(60)
        super()._push(*arguments)


def put(queue: Any, first: int, count: int) -> None:
    """Events of three users."""
    lines = [
        [number, number, number % 3, number % 5, SCHEMA.scenarios[0], {"click": 1}] for number in range(first, count)
    ]
    assert queue.put([(line[0], orjson.dumps(line)) for line in lines]) == len(lines)


def test_what_it_overwrites_is_applied_again(
    tmp_path: Path, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the second one is idle or at work when the first goes on; in the end the states have every event once."""
    monkeypatch.setattr(consumers, "BATCH", 20)
    count = iter(range(9))

    def sessions(kind: Callable[..., LiveSessions]) -> Any:
        registry = tmp_path / f"{next(count)}.db"
        return kind(open_live_store(SCHEMA, VIEW, folder=tmp_path, registry=registry, redis=address), SCHEMA, VIEW)

    with closing(open_queue(tmp_path, address)) as queue, ThreadPoolExecutor(1) as pool:
        second = Consumer(queue, sessions(LiveSessions), SCHEMA)
        for first in (0, 100):
            put(queue, first, first + 30)
            paused = sessions(Paused)
            stopped = pool.submit(Consumer(queue, paused, SCHEMA).step)
            assert paused.has_read.wait(60)
            second.step()
            put(queue, first + 30, first + 100)
            second.step()
            paused.go_on.set()
            assert len(stopped.result()) == 20
            while second.step():
                pass
        entries = queue.after(0, 1000)
        assert [second.depth, len(entries)] == [0, 200]
        users, events = parse(entries, SCHEMA)
        wanted, actual = merge(events, second.store.kept), second.store.read(users)  # type: ignore[attr-defined]
    for name, values in vars(actual).items():
        np.testing.assert_array_equal(values, getattr(wanted, name), err_msg=name)
