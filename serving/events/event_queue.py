"""The queue of events: what POST /events has acknowledged, in a SQLite file, until it is kept elsewhere.

A request is one transaction, which is on the disk before it is acknowledged. An event is known by its id and what is
said of it: said twice, it is counted as a duplicate and kept once. Several processes may add events; one reads them in
order.
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
    );"""


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
        self._lock = threading.Lock()
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
        received = time.time()
        rows = [(event_id, blake2b(body, digest_size=16).digest(), received, body) for event_id, body in events]
        with self._lock:
            before = self._connection.total_changes
            self._connection.execute("begin immediate")
            try:
                self._connection.executemany(
                    "insert or ignore into events (event_id, digest, received, body) values (?, ?, ?, ?)", rows
                )
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise
            return self._connection.total_changes - before

    def after(self, number: int, limit: int) -> list[Entry]:
        """The first `limit` entries behind the one with this number."""
        query = "select number, received, body from events where number > ? order by number limit ?"
        with self._lock:
            return [Entry(*row) for row in self._connection.execute(query, (number, limit))]

    def behind(self, number: int) -> int:
        """How many entries are behind the one with this number: entries are removed in order only."""
        with self._lock:
            (last,) = self._connection.execute("select coalesce(max(number), 0) from events").fetchone()
        return max(int(last) - number, 0)

    def forget(self, number: int, received_before: float) -> int:
        """Remove entries up to a number that were received before a time; returns how many."""
        query = "delete from events where number <= ? and received < ?"
        with self._lock:
            return self._connection.execute(query, (number, received_before)).rowcount

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
