"""The queue of events: requests that share a transaction, each with its own count; faults reach whoever waits."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from serving.events import event_queue
from serving.events.event_queue import FILE, EventQueue

pytestmark = pytest.mark.integration


def test_requests_at_once_are_all_kept_and_counted(tmp_path: Path) -> None:
    """Eight threads, half of whose events another one sends too: each event is kept once, and counted as new once."""
    with closing(EventQueue(tmp_path)) as queue, ThreadPoolExecutor(8) as pool:
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


def test_a_queue_keeps_its_identity_and_another_one_has_another(tmp_path: Path) -> None:
    """A store knows by it up to which entry of which queue it is complete."""
    identities = []
    for name in ("a", "a", "b"):
        with closing(EventQueue(tmp_path / name)) as queue:
            identities.append(queue.identity)
    assert identities[0] == identities[1] != identities[2]
