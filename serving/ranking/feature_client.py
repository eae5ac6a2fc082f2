"""The feature path of the user: one read per request from Feast's online store, bounded in time.

What does not depend on the item (the user's views, those of the user in a scenario) is one row, read at once: from a
file of SQLite by the request itself, from Redis in a thread that is given up if it takes too long. Where the store does
not answer, the row of the user's last request is taken if it is remembered, else nothing is known.
"""

import sqlite3
import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from feast import FeatureStore
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type

from common.errors import ModelError
from common.params import Serve, ServeStore
from features.schema import DType, Schema, View
from serving.ranking.circuit_breaker import Breaker, UnavailableError

MAPPED = 1 << 31  # bytes


@dataclass(frozen=True)
class Row:
    """Values by column, and by view the moment (seconds since 1970) that they are of; views without a row lack."""

    values: dict[str, Any] = field(default_factory=dict)
    moments: dict[str, int] = field(default_factory=dict)


class UserFeatures:
    """The newest features of users, of the `names` that the encoder wants.

    Raises ModelError for features by the item and something else: they would cost a read per item.
    """

    def __init__(
        self, store: FeatureStore, schema: Schema, views: tuple[View, ...], names: frozenset[str], settings: ServeStore
    ) -> None:
        _refuse_pairs(schema, views, names)
        self.store = store
        self.views = [view for view in views if schema.item not in view.keys and names & _names(view)]
        self.keys = tuple(dict.fromkeys(key for view in self.views for key in view.keys))
        self.columns = {view.name: sorted(names & _names(view)) for view in self.views}
        self._tables = {view.name: store.get_feature_view(view.name) for view in self.views}
        self._whole = {column.name for column in schema.events if column.dtype is DType.INT64}
        self._online = get_online_store_from_config(store.config.online_store)
        connection = self._connected(settings.timeout_ms)
        self._turn: AbstractContextManager[Any] = _Turns(connection) if connection else nullcontext()
        self._breaker = Breaker(
            self._read,
            seconds=settings.timeout_ms / 1e3,
            failures=settings.failures,
            pause=settings.pause_seconds,
            bounded=connection is not None,
        )
        self._remembered: OrderedDict[tuple[Any, ...], Row] = OrderedDict()
        self._limit, self._lock = settings.remembered_users, threading.Lock()

    def row(self, entity: dict[str, Any]) -> tuple[Row, str | None]:
        """The features of `entity` (user and scenario by the names of their columns), and why they may be others."""
        keys = tuple(entity[key] for key in self.keys)
        if not self.views:
            return Row(), None
        try:
            found = self._breaker(keys)
        except UnavailableError as error:
            with self._lock:
                last = self._remembered.get(keys)
            instead = "those of the last request" if last else "unknown"
            return last or Row(), f"online store: {error}; the user's features are {instead}"
        self._remember(keys, found)
        return found, None

    def close(self) -> None:
        """Read no more."""
        self._breaker.close()

    def _connected(self, milliseconds: float) -> sqlite3.Connection | None:
        """Where the store is SQLite: Feast's connection, which waits for a lock no longer than a request does.

        It reads the file as memory (up to SQLite's limit of 2 GB): a user who was not asked for lately costs half.
        """
        if not isinstance(self._online, SqliteOnlineStore):
            return None
        connection: sqlite3.Connection = self._online._get_conn(self.store.config)  # Feast has no setting for it
        connection.execute(f"pragma busy_timeout = {milliseconds:.0f}")
        connection.execute(f"pragma mmap_size = {MAPPED}")
        return connection

    def _read(self, keys: tuple[Any, ...]) -> Row:
        with self._turn:
            return self._read_rows(keys)

    def _read_rows(self, keys: tuple[Any, ...]) -> Row:
        """The row by Feast's reader of this store: what get_online_features does around it takes twice its time."""
        row = Row()
        for view in self.views:
            entity = EntityKey(join_keys=view.keys, entity_values=[self._value(key, keys) for key in view.keys])
            columns = self.columns[view.name]
            ((moment, found),) = self._online.online_read(
                self.store.config, self._tables[view.name], [entity], list(columns)
            )
            if found is not None and moment is not None and moment.timestamp():  # Redis: 1970 where it has nothing
                row.moments[view.name] = int(moment.timestamp())
                row.values.update((name, feast_value_type_to_python_type(found.get(name, Value()))) for name in columns)
        return row

    def _value(self, key: str, keys: tuple[Any, ...]) -> Value:
        value = keys[self.keys.index(key)]
        return Value(int64_val=value) if key in self._whole else Value(string_val=value)

    def _remember(self, keys: tuple[Any, ...], row: Row) -> None:
        with self._lock:
            self._remembered[keys] = row
            self._remembered.move_to_end(keys)
            if len(self._remembered) > self._limit:
                self._remembered.popitem(last=False)


class _Turns:
    """One reader of a SQLite file at a time; what he reads is of one moment, and waited for once.

    All threads share one connection. While one waits in SQLite for the file, another that touches the connection waits
    with Python's own lock in its hand, and the whole process stands still.
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


def patient(settings: Serve, milliseconds: float) -> Serve:
    """The settings of the service, less its hurry: a read of the online store may take at least so long."""
    limit = max(milliseconds, settings.store.timeout_ms)
    return settings.model_copy(update={"store": settings.store.model_copy(update={"timeout_ms": limit})})


def _refuse_pairs(schema: Schema, views: tuple[View, ...], names: frozenset[str]) -> None:
    pairs = [view for view in views if schema.item in view.keys and len(view.keys) > 1 and names & _names(view)]
    if pairs:
        raise ModelError(
            f"view {pairs[0].name}: the model reads features by {pairs[0].keys}, which would cost a read per item: "
            "they cannot be served; leave them out of the views and train again"
        )


def _names(view: View) -> frozenset[str]:
    return frozenset(column.name for column in view.columns)
