"""The queue of events: what POST /events has acknowledged, in a SQLite file, until it is kept elsewhere.

A request is on the disk before it is acknowledged; requests that arrive while the disk is busy share the next
transaction. An event is known by its id and what is said of it: said twice, it is counted as a duplicate and kept once.
Several processes may add events; one reads them in order.
"""

import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

FILE = "queue.db"
BUSY_SECONDS = 5.0
_TABLES = """
    create table if not exists queue (identity text not null);
    insert into queue select lower(hex(randomblob(16))) where not exists (select * from queue);
    create table if not exists events (
        number integer primary key autoincrement,
        event_id integer not null,
        digest blob not null,
        received real not null,
        body blob not null,
        unique (event_id, digest)
    );
    create table if not exists readers (name text primary key, number integer not null);"""


_INSERT = """
    insert into events (event_id, digest, received, body) select ?1, ?2, ?3, ?4
    where not exists (select * from events where event_id = ?1 and digest = ?2)"""  # `or ignore` would use up a number


def digest_of(body: bytes) -> bytes:
    """By what a queue knows that the same was said of an event before."""
    return blake2b(body, digest_size=16).digest()


class _Request:
    """The rows of a request that waits for its transaction; then how many were not known yet, or what went wrong."""

    def __init__(self, events: Sequence[tuple[int, bytes]]) -> None:
        received = time.time()
        self.rows = [(event_id, digest_of(body), received, body) for event_id, body in events]
        self.accepted, self.ended = 0, False
        self.fault: Exception | None = None


@dataclass(frozen=True)
class Entry:
    """An event as it was acknowledged: its `number` in the queue, when it was `received` (seconds since 1970), JSON."""

    number: int
    received: float
    body: bytes


class EventQueue:
    """The queue in the folder `folder`, which is made where there is none; `identity` is that of its file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock, self._turn, self._writing = threading.Lock(), threading.Condition(), False
        self._waiting: list[_Request] = []
        self._connection = sqlite3.connect(
            folder / FILE, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        for pragma in ("journal_mode = wal", "synchronous = full"):
            self._connection.execute(f"pragma {pragma}")
        self._connection.executescript(f"begin immediate; {_TABLES} commit;")
        self.identity = str(self._connection.execute("select identity from queue").fetchone()[0])

    def put(self, events: Sequence[tuple[int, bytes]]) -> int:
        """Add events, each its id and its JSON, durably: all or none; returns how many were not known yet.

        Raises sqlite3.OperationalError where the file is locked for too long or the disk is full.
        """
        request, group = _Request(events), list[_Request]()
        with self._turn:
            self._waiting.append(request)
            self._turn.wait_for(lambda: request.ended or not self._writing)
            if not request.ended:  # else another thread has committed it with its own
                group, self._waiting, self._writing = self._waiting, [], True
        if group:
            try:
                self._commit(group)
            finally:
                with self._turn:
                    self._writing = False
                    self._turn.notify_all()
        if request.fault is not None:
            raise request.fault
        return request.accepted

    def _commit(self, group: list[_Request]) -> None:
        """Commit requests in one transaction; each gets its count, or all get the fault."""
        with self._lock:
            try:
                self._connection.execute("begin immediate")
                for request in group:
                    before = self._connection.total_changes
                    self._connection.executemany(_INSERT, request.rows)
                    request.accepted = self._connection.total_changes - before
                self._connection.execute("commit")
            except Exception as fault:  # whoever waits must get it
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                for request in group:
                    request.fault = fault
        for request in group:
            request.ended = True

    def after(self, number: int, limit: int) -> list[Entry]:
        """The first `limit` entries behind the one with this number."""
        query = "select number, received, body from events where number > ? order by number limit ?"
        with self._lock:
            return [Entry(*row) for row in self._connection.execute(query, (number, limit))]

    def behind(self, number: int) -> int:
        """How many entries are behind the one with this number: they are numbered, and removed, in order."""
        with self._lock:
            (last,) = self._connection.execute("select coalesce(max(number), 0) from events").fetchone()
        return max(int(last) - number, 0)

    def acknowledge(self, reader: str, number: int) -> None:
        """Record that `reader` needs no entry up to a number: from its first call on, what it needs is not removed."""
        with self._lock:
            self._connection.execute("insert or replace into readers values (?, ?)", (reader, number))

    def forget(self, number: int, received_before: float) -> int:
        """Remove entries up to a number that were received before a time and that no reader needs; returns how many."""
        query = """
            delete from events where received < ?2 and number <= ?1
            and number <= (select coalesce(min(number), ?1) from readers)"""
        with self._lock:
            return self._connection.execute(query, (number, received_before)).rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
