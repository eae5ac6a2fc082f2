"""Writes of an online store by the executors of an engine: each batch of rows goes to Redis from where it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import redis
from feast import FeatureView

from features.engine.protocol import Engine
from features.schema import EVENT_TIMESTAMP, Schema, View
from features.store.bulk_writes import write_batch
from features.store.definitions import configured_store, definitions
from features.store.feast_names import feast_name

_WRITTEN = pa.schema([("rows", pa.int64()), ("error", pa.string()), ("reason", pa.string())])
_NOWHERE = Path("online.db")  # of SQLite, which a Redis replaces


@dataclass(frozen=True)
class Destination:
    """A view in the Redis at an address (`host:port`, and more as Feast has it), by its declaration."""

    schema: Schema
    views: tuple[View, ...]
    view: str
    redis: str


def write_everywhere(engine: Engine, destination: Destination, rows: Path) -> int:
    """Write the Parquet file `rows`, the newest row of each entity, where its parts are read; returns their number.

    What a task writes twice, because a machine was lost, is the same. The executors have to reach the Redis; its error
    there is raised here.
    """
    engine.read("__to_write", rows)
    written = 0
    for batch in engine.mapped("select * from __to_write", partial(_write, destination), _WRITTEN):
        for part in batch.to_pylist():
            if part["error"] is not None:
                raise getattr(redis.exceptions, part["error"], redis.RedisError)(part["reason"])
            written += part["rows"]
    return written


def _write(destination: Destination, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write batches to the destination; yields the number of rows of each, or the error of the Redis."""
    try:
        store, config, view = _opened(destination)
        for batch in filter(len, batches):
            names = [name if name == EVENT_TIMESTAMP else feast_name(name) for name in batch.schema.names]
            write_batch(store, config, view, batch.rename_columns(names))
            yield pa.record_batch([[len(batch)], [None], [None]], _WRITTEN)
    except redis.RedisError as error:
        yield pa.record_batch([[0], [type(error).__name__], [str(error)]], _WRITTEN)


@cache
def _opened(destination: Destination) -> tuple[Any, Any, FeatureView]:
    """Feast's online store, its settings and the view: once in a process."""
    store = configured_store(str(_NOWHERE.with_suffix(".registry")), online=_NOWHERE, redis=destination.redis)
    defined = definitions(destination.schema, destination.views, Path())
    (view,) = (one for one in defined if isinstance(one, FeatureView) and one.name == destination.view)
    online: Any = store._get_provider()
    return online.online_store, store.config, view
