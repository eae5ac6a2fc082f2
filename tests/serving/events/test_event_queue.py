"""The queue of events: requests that share a transaction, each with its own count; faults reach whoever waits."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT
from features.session.events import Events
from serving.events import event_queue
from serving.events.consumer import Consumer
from serving.events.event_queue import FILE, EventQueue
from serving.events.event_request import event_type, example_event
from serving.events.queues import open_queue
from serving.events.redis_queue import RedisEventQueue
from tests.support import world
from tests.support.redis_process import needs_redis

pytestmark = pytest.mark.integration


@pytest.fixture(params=["file", pytest.param("redis", marks=needs_redis)])
def address(request: pytest.FixtureRequest) -> str | None:
    """The Redis of the queue, which is empty, or None: then it is a file."""
    if request.param == "file":
        return None
    server = request.getfixturevalue("redis_server")
    server.client.flushall()
    return str(server.address)


def test_requests_at_once_are_all_kept_and_counted(tmp_path: Path, address: str | None) -> None:
    """Eight threads, half of whose events another one sends too: each event is kept once, and counted as new once."""
    with closing(open_queue(tmp_path, address)) as queue, ThreadPoolExecutor(8) as pool:
        requests = [[(event, b"%d" % event) for event in range(5 * start, 5 * start + 10)] for start in range(200)]
        accepted = list(pool.map(queue.put, requests))
        entries = queue.after(0, 10_000)
    assert sum(accepted) == len(entries) == 5 * 199 + 10
    assert len({entry.body for entry in entries}) == len(entries)


def test_a_fault_reaches_every_request_and_the_next_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the file for too long, all that wait get the error, and nothing of them is kept."""
    monkeypatch.setattr(event_queue, "BUSY_SECONDS", 0.2)
    with (
        closing(EventQueue(tmp_path)) as queue,
        closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other,
        ThreadPoolExecutor(4) as pool,
    ):
        other.execute("begin immediate")
        waiting = [pool.submit(queue.put, [(event, b"")]) for event in range(4)]
        faults = [type(one.exception()) for one in waiting]
        other.execute("commit")
        assert faults == [sqlite3.OperationalError] * 4
        assert queue.put([(0, b""), (1, b"")]) == 2
        assert [entry.number for entry in queue.after(0, 9)] == [1, 2]


def test_entries_are_numbered_and_leave_in_order(tmp_path: Path, address: str | None) -> None:
    """A report that was removed is still known; what waits stays, however old it is."""
    with closing(open_queue(tmp_path, address)) as queue:
        assert queue.put([(event, b"%d" % event) for event in range(10)]) == 10
        assert [entry.number for entry in queue.after(3, 4)] == [4, 5, 6, 7]
        assert (queue.behind(0), queue.behind(10)) == (10, 0)
        assert queue.forget(10, received_before=0) == 0
        assert queue.forget(6, received_before=2e9) == 6
        assert [entry.body for entry in queue.after(0, 100)] == [b"6", b"7", b"8", b"9"]
        assert queue.put([(9, b"9"), (10, b"10"), (10, b"10")]) == 1
        assert [(entry.number, entry.body) for entry in queue.after(10, 9)] == [(11, b"10")]


def test_duplicates_use_no_numbers(tmp_path: Path, address: str | None) -> None:
    """So the last number less that of the last entry that was applied is how many wait."""
    with closing(open_queue(tmp_path, address)) as queue:
        for _ in range(5):
            queue.put([(event, b"%d" % event) for event in range(4)])
        queue.put([(4, b"4")])
        assert (queue.behind(0), queue.behind(4)) == (5, 1)


def test_what_a_reader_needs_stays(tmp_path: Path, address: str | None) -> None:
    """From its first acknowledgement on, an entry is removed only when every reader has it."""
    with closing(open_queue(tmp_path, address)) as queue:
        queue.put([(event, b"%d" % event) for event in range(10)])
        queue.acknowledge("one", 3)
        queue.acknowledge("other", 5)
        assert queue.forget(10, received_before=2e9) == 3
        queue.acknowledge("one", 7)
        assert queue.forget(10, received_before=2e9) == 2
        assert queue.forget(4, received_before=2e9) == 0


@needs_redis
def test_a_redis_that_was_emptied_has_another_queue(redis_server: Any) -> None:
    """A consumer that runs on then begins with the first entry of the new one."""
    redis_server.client.flushall()
    store, queue = Applied(), RedisEventQueue(redis_server.address)
    consumer = Consumer(queue, store, world.schema())
    for _ in range(2):
        event = event_type(world.schema()).model_validate(example_event(world.schema()), strict=False)
        assert queue.put([(event.event_id, event.line())]) == 1
        assert len(consumer.step()) == 1
        redis_server.client.flushall()
    assert store.merged == 2
    queue.close()


class Applied:
    """A store that counts what is merged."""

    def __init__(self) -> None:
        self.merged, self.positions = 0, dict[str, int]()

    def merge(self, users: Any, events: Events) -> None:
        """Count the events."""
        self.merged += len(events)

    def applied(self, queue: str) -> int:
        """The number that was recorded."""
        return self.positions.get(queue, 0)

    def advance(self, queue: str, before: int, number: int) -> int:
        """Record it."""
        assert self.applied(queue) == before
        self.positions[queue] = number
        return number


def test_a_queue_keeps_its_identity_and_another_one_has_another(tmp_path: Path) -> None:
    """A store knows by it up to which entry of which queue it is complete."""
    identities = []
    for name in ("a", "a", "b"):
        with closing(EventQueue(tmp_path / name)) as queue:
            identities.append(queue.identity)
    assert identities[0] == identities[1] != identities[2]


WRITER = """
import sys
from pathlib import Path
from serving.events.event_queue import EventQueue
queue = EventQueue(Path(sys.argv[1]))
for event in range(1_000_000):
    assert queue.put([(event, b"%d" % event)]) == 1
    print(event, flush=True)
"""


def test_kill_9_of_the_service_loses_no_acknowledged_event(tmp_path: Path) -> None:
    """A process that is killed while it adds events: each one that it has acknowledged is there, once, in order."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        acknowledged = [next(process.stdout) for _ in range(50)]
        process.kill()
        acknowledged += process.stdout.readlines()
    with closing(EventQueue(tmp_path)) as queue:
        kept = [int(entry.body) for entry in queue.after(0, 1_000_000)]
    assert kept == list(range(len(kept)))
    assert len(acknowledged) <= len(kept) <= len(acknowledged) + 1
