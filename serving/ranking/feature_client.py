"""The feature client: one read of the user features per request from Feast's online store, bounded in time.

Features that do not depend on the item (the user's views, and those of the user in a scenario) form one row, read at
once: from SQLite in the request's own thread, from Redis in another thread that is abandoned if it takes too long. If
the store does not answer, the row of the user's last request is used if it is remembered, else the row is empty.
"""

import sqlite3
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from feast import FeatureStore
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type

from common.errors import ModelError
from common.serve_params import Serve, ServeStore
from features.engine.session_view import session_views, stored_view
from features.schema import DType, Schema, View
from features.session.events import Events, from_values
from features.store.feast_names import feast_name
from features.store.redis_errors import other_kind
from serving.ranking.circuit_breaker import CircuitBreaker, UnavailableError

MMAP_BYTES = 1 << 31


@dataclass(frozen=True)
class UserRow:
    """Values by column, and by view the timestamp of its row (seconds since 1970); a view without a row is absent.

    `events` are the user's newest events by session view, of each store that has some (serving/ranking/sessions.py).
    """

    values: dict[str, Any] = field(default_factory=dict)
    timestamps: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[Events]] = field(default_factory=dict)


class _Table:
    """The table of a view in one online store, which Feast's reader of this kind of store reads.

    get_online_features around the reader takes twice its time.
    """

    def __init__(
        self, store: FeatureStore, online: OnlineStore, schema: Schema, view: View, names: frozenset[str]
    ) -> None:
        self.view, self._schema, self._config, self._online = view, schema, store.config, online
        self.columns = {name: feast_name(name) for name in _stored_names(schema, view, names)}
        self._feast_view = store.get_feature_view(view.name)

    def read_into(self, row: UserRow, entity: EntityKey) -> None:
        """Add what the table has of an entity to `row`."""
        ((timestamp, values),) = self._online.online_read(
            self._config, self._feast_view, [entity], list(self.columns.values())
        )
        if values is None or timestamp is None or not timestamp.timestamp():  # Redis: 1970 without a row
            return
        read = {
            name: feast_value_type_to_python_type(values.get(stored, Value())) for name, stored in self.columns.items()
        }
        if self.view.session is None:
            row.values.update(read)
        else:
            row.events.setdefault(self.view.name, []).append(from_values(read, self._schema))
        row.timestamps[self.view.name] = max(int(timestamp.timestamp()), row.timestamps.get(self.view.name, 0))


class UserFeatures:
    """Reads the newest features of users, of the columns `names` that the encoder reads.

    `live` is the store of the events since the log, if there are session views (features/store/live_sessions.py).
    Raises ModelError for features by the item and another key: they would cost a read per item.
    """

    def __init__(
        self,
        store: FeatureStore,
        schema: Schema,
        views: tuple[View, ...],
        names: frozenset[str],
        settings: ServeStore,
        *,
        live: FeatureStore | None = None,
    ) -> None:
        _refuse_pairs(schema, views, names)
        self.store = store
        self.views = [view for view in views if schema.item not in view.keys and names & _names(view)]
        self.keys = tuple(dict.fromkeys(key for view in self.views for key in view.keys))
        self._integers = {column.name for column in schema.events if column.dtype is DType.INT64}
        self._online = get_online_store_from_config(store.config.online_store)
        connection = _sqlite_connection(self._online, store, settings.timeout_ms)
        self.tables = [_Table(store, self._online, schema, view, names) for view in self.views]
        if live is not None:
            newest = get_online_store_from_config(live.config.online_store)
            _sqlite_connection(newest, live, settings.timeout_ms)
            self.tables += [_Table(live, newest, schema, view, names) for view in session_views(self.views)]
        self._transaction: AbstractContextManager[Any] = _Transactions(connection) if connection else nullcontext()
        self._breaker = CircuitBreaker(
            self._read,
            seconds=settings.timeout_ms / 1e3,
            failures=settings.failures,
            pause=settings.pause_seconds,
            bounded=connection is not None,
        )
        self._remembered: OrderedDict[tuple[Any, ...], UserRow] = OrderedDict()
        self._limit, self._lock = settings.remembered_users, threading.Lock()

    def row(self, entity: dict[str, Any]) -> tuple[UserRow, str | None]:
        """The features of `entity` (user and scenario by column name), and why they may be outdated or missing."""
        keys = tuple(entity[key] for key in self.keys)
        if not self.views:
            return UserRow(), None
        try:
            row = self._breaker(keys)
        except UnavailableError as error:
            with self._lock:
                last = self._remembered.get(keys)
            instead = "those of the last request" if last else "unknown"
            return last or UserRow(), f"online store: {error}; the user's features are {instead}"
        self._remember(keys, row)
        return row, None

    def close(self) -> None:
        """Start no further read."""
        self._breaker.close()

    def _read(self, keys: tuple[Any, ...]) -> UserRow:
        try:
            with self._transaction:
                return self._read_tables(keys)
        except Exception as error:
            reason = other_kind(error, getattr(self.store.config.online_store, "connection_string", ""))
            raise error if reason is None else UnavailableError(reason) from error

    def _read_tables(self, keys: tuple[Any, ...]) -> UserRow:
        row = UserRow()
        for table in self.tables:
            names = table.view.keys
            entity = EntityKey(
                join_keys=map(feast_name, names), entity_values=[self._value(name, keys) for name in names]
            )
            table.read_into(row, entity)
        return row

    def _value(self, key: str, keys: tuple[Any, ...]) -> Value:
        value = keys[self.keys.index(key)]
        return Value(int64_val=value) if key in self._integers else Value(string_val=value)

    def _remember(self, keys: tuple[Any, ...], row: UserRow) -> None:
        """Keep the row of a user of whom the store holds something: a caller can make up any number of other ids."""
        with self._lock:
            if not row.timestamps:
                self._remembered.pop(keys, None)
                return
            self._remembered[keys] = row
            self._remembered.move_to_end(keys)
            if len(self._remembered) > self._limit:
                self._remembered.popitem(last=False)


def _sqlite_connection(online: OnlineStore, store: FeatureStore, milliseconds: float) -> sqlite3.Connection | None:
    """Feast's connection where the store is SQLite, with the lock timeout of a request; else None.

    It maps the file into memory (up to SQLite's limit of 2 GB): a user who is not in its page cache costs half.
    """
    if not isinstance(online, SqliteOnlineStore):
        return None
    connection: sqlite3.Connection = online._get_conn(store.config)  # Feast has no setting for it
    connection.execute(f"pragma busy_timeout = {milliseconds:.0f}")
    connection.execute(f"pragma mmap_size = {MMAP_BYTES}")
    return connection


class _Transactions:
    """Read transactions of a SQLite file, one at a time, so that the views of a read are of one state of the file.

    All threads share one connection. While one waits in SQLite for a file lock, another that touches the connection
    waits while holding Python's global lock, which would stop the whole process.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._connection.execute("begin")
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        try:
            self._connection.rollback()  # nothing was written
        finally:
            self._lock.release()


def with_read_timeout(settings: Serve, milliseconds: float) -> Serve:
    """The settings of the service with a read timeout of the online store of at least `milliseconds`."""
    limit = max(milliseconds, settings.store.timeout_ms)
    return settings.model_copy(update={"store": settings.store.model_copy(update={"timeout_ms": limit})})


def _refuse_pairs(schema: Schema, views: tuple[View, ...], names: frozenset[str]) -> None:
    pairs = [view for view in views if schema.item in view.keys and len(view.keys) > 1 and names & _names(view)]
    if pairs:
        raise ModelError(
            f"view {pairs[0].name}: the model reads features by {pairs[0].keys}, which would cost a read per item: "
            "they cannot be served; leave them out of the views and train again"
        )


def _stored_names(schema: Schema, view: View, names: frozenset[str]) -> list[str]:
    """The columns to read of a view's table: those of `names`, of a session all that it holds of the events."""
    stored = _names(stored_view(schema, view))
    return sorted(stored & names if view.session is None else stored)


def _names(view: View) -> frozenset[str]:
    return frozenset(column.name for column in view.columns)
