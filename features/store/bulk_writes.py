"""Batches of rows into Feast's online stores, in Feast's own layout, without a message per value.

SQLite: one statement writes all features of an entity. Redis: one HSET per entity, many of them at once, to each node
of a cluster. What is written is what Feast's `online_write_batch` writes, to the byte.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore, FeatureView
from feast.infra.online_stores.helpers import _mmh3, compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.repo_config import RepoConfig
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import AskError

from features.engine.sql import column as quoted
from features.engine.sql import literal
from features.store.value_encoding import serialized_keys, serialized_timestamps, serialized_values, value_texts


def write_batch(store: OnlineStore, config: RepoConfig, view: FeatureView, batch: pa.RecordBatch) -> None:
    """Write a batch, the newest row of each of its entities, to a SQLite file (one transaction), a Redis or a cluster.

    Args:
        store: Feast's online store of one of these kinds.
        config: The settings of the repository.
        view: The view whose keys, features and timestamp are columns of the batch.
        batch: Rows, at least one, of the types that the view declares.
    """
    if isinstance(store, RedisOnlineStore):
        _write_redis(store._get_client(config.online_store), config.project, view, batch)
    else:
        assert isinstance(store, SqliteOnlineStore)
        _write_sqlite(store._get_conn(config), compute_table_id(config.project, view), view, batch)


@contextmanager
def unshared(store: FeatureStore) -> Iterator[None]:
    """Within the block the SQLite file of `store` is written without a journal, and indexed at the end.

    Only for a file that nothing reads and that is removed where the block fails: a crash leaves it in pieces.
    """
    online: Any = store._get_provider().online_store
    connection = online._get_conn(store.config)
    for setting in ("journal_mode = off", "synchronous = off"):
        connection.execute(f"pragma {setting}")
    views = store.list_feature_views()
    for view in views:
        connection.execute(f"drop index {quoted(compute_table_id(store.project, view) + '_ek')}")
    yield
    online.update(store.config, [], views, [], [], partial=True)  # Feast makes the index again


def _write_sqlite(connection: sqlite3.Connection, table: str, view: FeatureView, batch: pa.RecordBatch) -> None:
    seconds = pc.divide(_microseconds(view, batch), 1_000_000)  # towards 0, as Feast's adapter rounds
    columns: list[Any] = [_objects(_keys(view, batch)), seconds.to_pylist()]
    features = sorted(view.features, key=lambda feature: feature.name)  # the order of the table's primary key
    for feature in features:
        column, kind = batch.column(feature.name), feature.dtype.to_value_type()
        columns += [_objects(serialized_values(column, kind)), value_texts(column, kind)]
    with connection:
        connection.executemany(_upsert(table, [feature.name for feature in features]), zip(*columns, strict=True))


def _upsert(table: str, features: list[str]) -> str:
    """SQL: write the features of an entity; parameters are its key, its timestamp, then value and text of each."""
    rows = (f"(?1, {literal(name)}, ?{2 * n + 3}, ?{2 * n + 4}, ?2, null)" for n, name in enumerate(features))
    changed = ", ".join(f"{name} = excluded.{name}" for name in ("value", "value_text", "event_ts", "created_ts"))
    return (
        f"insert into {quoted(table)} (entity_key, feature_name, value, value_text, event_ts, created_ts) "
        f"values {', '.join(rows)} on conflict (entity_key, feature_name) do update set {changed}"
    )


def _write_redis(client: Any, project: str, view: FeatureView, batch: pa.RecordBatch) -> None:
    key = pc.binary_join_element_wise(_keys(view, batch), pa.scalar(project.encode(), pa.binary()), b"")
    arguments: list[pa.BinaryArray | bytes] = [b"HSET", key, f"_ts:{view.name}".encode()]
    arguments.append(serialized_timestamps(_microseconds(view, batch).to_numpy()))
    for feature in view.features:
        values = serialized_values(batch.column(feature.name), feature.dtype.to_value_type())
        arguments += [_mmh3(f"{view.name}:{feature.name}"), values]
    if isinstance(client, Redis):
        send_packed(client, arguments)
    else:
        send_to_nodes(client, arguments)


def send_packed(client: Redis, arguments: list[pa.BinaryArray | bytes]) -> None:
    """Send one command per row, all of them as one run of bytes that Arrow writes, and read the replies.

    Args:
        client: A Redis that is not a cluster.
        arguments: Name and arguments of the commands, each a column [N], or bytes that are the same in every row.
    """
    parts: list[Any] = [pa.scalar(f"*{len(arguments)}\r\n".encode(), pa.binary())]
    for argument in arguments:
        column = pa.array([argument], pa.binary())[0] if isinstance(argument, bytes) else argument
        length = pc.binary_length(column).cast(pa.string()).cast(pa.binary())
        parts += [pa.scalar(b"$"), length, pa.scalar(b"\r\n"), column, pa.scalar(b"\r\n")]
    commands = pc.binary_join_element_wise(*parts, b"")
    connection: Any = client.connection_pool.get_connection()
    try:
        connection.send_packed_command([b"".join(_objects(commands))])
        for _ in range(len(commands)):
            connection.read_response()
    except BaseException:
        connection.disconnect()  # replies that nobody has read are in it
        raise
    finally:
        client.connection_pool.release(connection)


def send_to_nodes(cluster: RedisCluster, arguments: list[pa.BinaryArray | bytes]) -> None:
    """The same to a cluster: the commands of each node as one run of bytes, and those of moved slots one by one."""
    nodes = [cluster.get_node_from_key(key) for key in _objects(arguments[1])]
    for node in dict.fromkeys(nodes):
        own = pa.array([one is node for one in nodes])
        sent = [one if isinstance(one, bytes) else one.filter(own) for one in arguments]
        try:
            send_packed(cluster.get_redis_connection(node), sent)
        except AskError:  # also MovedError
            send_in_pipeline(cluster, sent)


def send_in_pipeline(client: RedisCluster, arguments: list[pa.BinaryArray | bytes]) -> None:
    """The same by the client's own pipeline, which follows redirections and packs every command in Python."""
    rows = next(len(argument) for argument in arguments if not isinstance(argument, bytes))
    _, *columns = [[one] * rows if isinstance(one, bytes) else _objects(one) for one in arguments]
    with client.pipeline(transaction=False) as pipeline:
        for command in zip(*columns, strict=True):
            pipeline.execute_command(arguments[0].decode(), *command)
        pipeline.execute()


def _keys(view: FeatureView, batch: pa.RecordBatch) -> pa.BinaryArray:
    return serialized_keys({field.name: batch.column(field.name) for field in view.entity_columns})


def _microseconds(view: FeatureView, batch: pa.RecordBatch) -> pa.Int64Array:
    """The timestamps of the rows since 1970 [N]."""
    assert view.batch_source is not None  # every view of definitions.py has one
    timestamps = batch.column(view.batch_source.timestamp_field)
    return timestamps.cast(pa.timestamp("us", timestamps.type.tz)).cast(pa.int64())


def _objects(values: pa.BinaryArray) -> list[bytes]:
    return list(np.asarray(values.to_numpy(zero_copy_only=False)))
