"""The newest events of users as they arrive: an online store of its own, which Feast keeps and one process writes.

The other online stores hold the sessions as of the end of a log: they are outputs of DVC, or written by the refresh.
What arrives since is kept apart, so no write replaces what another has written; the service merges both when it reads
them (features/session/events.py), which gives the same as if every event had been merged into one.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from feast import FeatureStore
from feast.data_source import PushMode
from feast.infra.online_stores.redis import RedisOnlineStore

from features.engine.arrow_types import arrow_schema
from features.engine.session_view import TIMESTAMPS, stored_view
from features.schema import EVENT_TIMESTAMP, Schema, View
from features.session.events import Events, concatenate, from_lists, merge, to_lists
from features.store.definitions import PUSHED, open_store
from features.store.feast_names import feast_name

PROJECT = "hinet_live"  # of Feast: another one than that of the stores that hold the log
FILE = "sessions.db"
_ADVANCE_SQL = """
    insert into applied values (:queue, case when :before = 0 then :number else 0 end) on conflict (queue) do update
    set number = case when number = :before then :number else min(number, :before) end returning number"""
_ADVANCE_LUA = """
local now, before = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[2])
local number = now == before and ARGV[3] or string.format('%d', math.min(now, before))
redis.call('HSET', KEYS[1], ARGV[1], number)
return tonumber(number)
"""


def open_live_store(
    schema: Schema, view: View, *, folder: Path, registry: Path, redis: str | None = None
) -> FeatureStore:
    """The store of the session view in `folder`, made where there is none; or in the Redis.

    Args:
        schema: Declaration of the data set.
        view: The session view.
        folder: Folder of the SQLite file; with a Redis it is not touched.
        registry: File of Feast's definitions.
        redis: As `open_store` has it.
    """
    online = folder / FILE
    if redis is None:
        folder.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(online)) as connection:
            connection.execute("pragma journal_mode = wal")  # readers see the last complete write, and never wait
    return open_store(
        schema,
        (view,),
        features=folder,
        online=online,
        registry=registry,
        redis=redis,
        reads=redis is not None,  # a service starts whether its Redis answers or not
        project=PROJECT,
    )


class LiveSessions:
    """Reads and writes the states of users in a live store; only one process may write."""

    def __init__(self, store: FeatureStore, schema: Schema, view: View) -> None:
        assert view.session is not None  # of a session view
        self.store, self.schema, self.view, self.kept = store, schema, view, view.session.kept
        self.columns = stored_view(schema, view).columns
        self._types = arrow_schema(self.columns)
        self._user = feast_name(schema.user)
        online: Any = store._get_provider().online_store
        self._position: Position
        if isinstance(online, RedisOnlineStore):
            self._position = _RedisPosition(online._get_client(store.config.online_store))
        else:
            self._position = _SqlitePosition(online._get_conn(store.config))

    def applied(self, queue: str) -> int:
        """The number of the last entry of a queue that was merged; 0 where none was."""
        return self._position.read(queue)

    def advance(self, queue: str, before: int, number: int) -> int:
        """Record, after it, that a queue was merged from `before` up to `number`; returns up to where it is complete.

        A crash before that repeats a merge, which changes nothing. If something else than `before` is recorded by now,
        another process has merged meanwhile, and each may have replaced what the other wrote: the queue is complete up
        to the smaller number only, and is merged again from there.
        """
        return self._position.advance(queue, before, number)

    def merge(self, users: Sequence[Any], events: Events) -> None:
        """Merge events into the states of `users`, to whose indices the codes of the events refer."""
        merged = merge(concatenate([self.read(users), events]), self.kept)
        if len(merged):
            self._push(users, merged)

    def read(self, users: Sequence[Any]) -> Events:
        """The states of users, as the store has them now; codes are indices of `users`."""
        names = [f"{self.view.name}:{column.name}" for column in self.columns]
        rows = self.store.get_online_features(names, [{self._user: user} for user in users]).to_dict()
        lists = {field.name: pa.array([value or [] for value in rows[field.name]], field.type) for field in self._types}
        return from_lists(lists, np.arange(len(users)), self.schema)

    def _push(self, users: Sequence[Any], events: Events) -> None:
        """Write the states of the users of whom there are events, in the order of `merge`, through Feast's push."""
        lists = to_lists(events, self.schema)
        codes = np.unique(events.users)
        newest = pa.array([timestamps[-1] for timestamps in lists[TIMESTAMPS].to_pylist()], pa.timestamp("us", "UTC"))
        columns = {self._user: pa.array([users[code] for code in codes.tolist()]), EVENT_TIMESTAMP: newest, **lists}
        self.store.push(PUSHED, pa.table(columns).to_pandas(), to=PushMode.ONLINE)


class Position(Protocol):
    """Up to which entry of each queue a store is complete, kept in the store itself: a new store is complete to 0."""

    def read(self, queue: str) -> int:
        """The number of the last entry of `queue`."""
        ...

    def advance(self, queue: str, before: int, number: int) -> int:
        """Replace `before` by `number`, or another number by the smaller of it and `before`, at once; returns it."""
        ...


class _SqlitePosition:
    """A table of the same file: with `synchronous = normal` a power cut takes it back as far as the states."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("pragma synchronous = normal")
        connection.execute("create table if not exists applied (queue text primary key, number integer not null)")

    def read(self, queue: str) -> int:
        row = self._connection.execute("select number from applied where queue = ?", (queue,)).fetchone()
        return 0 if row is None else int(row[0])

    def advance(self, queue: str, before: int, number: int) -> int:
        values = {"queue": queue, "before": before, "number": number}
        with self._connection:
            return int(self._connection.execute(_ADVANCE_SQL, values).fetchone()[0])


class _RedisPosition:
    """A hash by queue."""

    def __init__(self, client: Any) -> None:
        self._client, self._key = client, f"{PROJECT}:applied"
        self._advance = client.register_script(_ADVANCE_LUA)

    def read(self, queue: str) -> int:
        return int(self._client.hget(self._key, queue) or 0)

    def advance(self, queue: str, before: int, number: int) -> int:
        return int(self._advance([self._key], [queue, before, number]))
