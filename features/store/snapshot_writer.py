"""Writes the item snapshot of an online store from the offline store (features/store/item_snapshot.py reads it)."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.files import replacing
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.schema import EVENT_TIMESTAMP, Schema, View
from features.store.item_snapshot import item_columns, snapshot_metadata
from features.store.offline_store import view_path


def write_snapshot(schema: Schema, views: tuple[View, ...], *, features: Path, as_of: datetime, path: Path) -> int:
    """Write to `path` the newest row up to `as_of` of every item under `features`; returns the number of items."""
    rows = newest_items(schema, views, features, as_of)
    metadata = snapshot_metadata(schema, views, as_of, rows.num_rows)
    with replacing(path) as partial:
        pq.write_table(rows.replace_schema_metadata(metadata), partial, write_page_checksum=True)
    return int(rows.num_rows)


def newest_items(schema: Schema, views: tuple[View, ...], features: Path, as_of: datetime) -> pa.Table:
    """The newest row up to `as_of` of every item, in the order of their ids."""
    key = next(column for column in schema.events if column.name == schema.item)
    types = arrow_schema((key, *item_columns(schema, views)))
    types = types.insert(1, pa.field(EVENT_TIMESTAMP, pa.timestamp("us")))
    (view,) = [view for view in views if view.keys == (schema.item,)]
    item = sql.column(key.name)
    query = f"""
        select * from {sql.parquet(view_path(features, view))} where {EVENT_TIMESTAMP} <= $as_of
        qualify row_number() over (partition by {item} order by {EVENT_TIMESTAMP} desc) = 1
        order by {item} """
    with connect() as connection:
        rows = connection.execute(query, {"as_of": as_of.astimezone(UTC).replace(tzinfo=None)}).to_arrow_table()
    return rows.select(types.names).cast(types)
