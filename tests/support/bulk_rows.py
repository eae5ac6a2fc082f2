"""A view with every type that a view can have, its rows, and a store for them."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore, FeatureView

from features.schema import Column, DType, Kind, Role, View
from features.store.arrow_engine import to_rows
from features.store.bulk_writes import write_batch
from features.store.definitions import open_store
from tests.support import world

START = datetime(2026, 1, 5, 0, 30, 0, 250_000)
VALUES: dict[DType, tuple[pa.DataType, list[Any]]] = {
    DType.INT64: (pa.int64(), [0, -1, 2**53 + 1, None]),
    DType.FLOAT32: (pa.float32(), [0.1, float("nan"), -0.0, None]),
    DType.STRING: (pa.string(), ["", "it's", "京", None]),
    DType.INT64_LIST: (pa.list_(pa.int64()), [[], [1, -(2**62)], [0], None]),
    DType.FLOAT32_LIST: (pa.list_(pa.float32()), [[], [0.5, -1.5], [0.0], None]),
    DType.STRING_LIST: (pa.list_(pa.string()), [[], ["", "a"], ["京"], None]),
}
KINDS = dict(
    zip(VALUES, (Kind.NUMERIC, Kind.NUMERIC, Kind.CATEGORICAL, Kind.SEQUENCE, Kind.VECTOR, Kind.SEQUENCE), strict=True)
)
COLUMNS = tuple(
    Column(name=f"of_{dtype.value}", role=Role.FEATURE, dtype=dtype, kind=kind, nullable=True, length=2)
    for dtype, kind in KINDS.items()
)
VIEW = View(name="pair", keys=("user_id", "scenario"), columns=COLUMNS)


def rows(*, first: int = 0) -> pa.RecordBatch:
    """One row per entity, each value of every type at some entity; `first` shifts them."""
    columns = {
        "user_id": pa.array([1, 256, -5, 2**40]),
        "scenario": pa.array(["feed", "search", "feed", "channel"]),
        "event_timestamp": pa.array([START + timedelta(hours=n - 10**6 * (n == 2)) for n in range(4)]),
    }
    for column, (kind, values) in zip(COLUMNS, VALUES.values(), strict=True):
        columns[column.name] = pa.array(values[first:] + values[:first], kind)
    return pa.record_batch(columns)


def opened(folder: Path, redis: str | None = None) -> tuple[FeatureStore, FeatureView]:
    """An empty store with the view, whose rows are those of the offline store, too."""
    pq.write_table(pa.Table.from_batches([rows()]), folder / "pair.parquet")
    online, registry = folder / "online.db", folder / "registry.db"
    store = open_store(world.schema(), (VIEW,), features=folder, online=online, registry=registry, redis=redis)
    return store, store.get_feature_view("pair")


def write(store: FeatureStore, view: FeatureView, batch: pa.RecordBatch, *, bulk: bool) -> None:
    """Write a batch, in bulk or as Feast does."""
    online = store._get_provider().online_store
    if bulk:
        write_batch(online, store.config, view, batch)
    else:
        online.online_write_batch(store.config, view, to_rows(view, batch), None)


def check_read(store: FeatureStore) -> None:
    """The values that Feast reads are those of `rows()`."""
    batch = rows()
    entities = [{name: row[name] for name in VIEW.keys} for row in batch.to_pylist()]
    read = store.get_online_features([f"pair:{column.name}" for column in COLUMNS], entities).to_dict()
    for column in COLUMNS:
        written = [None if value != value else value for value in batch.column(column.name).to_pylist()]
        assert read[column.name] == written, column.name
