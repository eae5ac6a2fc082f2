"""The item snapshot: the newest features of every item as of a timestamp, one Parquet file next to the online store.

The service keeps it in memory, so a request reads one row of the online store, however many candidates it has. The
snapshot is written together with the online store, from the same rows, and replaced atomically. The file's metadata
name its schema; pages carry checksums, so a truncated or changed file is refused with a clear message.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import SnapshotError
from common.files import replacing
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.schema import EVENT_TIMESTAMP, Column, Schema, View
from features.store.offline_store import view_path

SUFFIX = ".items.parquet"
_AS_OF, _ROWS, _SCHEMA = b"hinet.moment", b"hinet.rows", b"hinet.schema"
_HOW_TO_WRITE = "run `dvc repro materialize`, or `python -m features.refresh` for a store in use"


@dataclass(frozen=True)
class ItemSnapshot:
    """Items in the order of their ids: id, event_timestamp and the columns of their view; `as_of` is UTC."""

    rows: pa.Table
    as_of: datetime


def item_snapshot_path(online: Path) -> Path:
    """The snapshot of the online store `online`: online.db -> online.items.parquet."""
    return online.with_suffix(SUFFIX)


def item_columns(schema: Schema, views: tuple[View, ...]) -> tuple[Column, ...]:
    """The columns of the item's own view: what depends on the item alone."""
    return tuple(column for view in views if view.keys == (schema.item,) for column in view.columns)


def write_snapshot(schema: Schema, views: tuple[View, ...], *, features: Path, as_of: datetime, path: Path) -> int:
    """Write to `path` the newest row up to `as_of` of every item under `features`; returns the number of items."""
    rows = newest_items(schema, views, features, as_of)
    metadata = {
        _AS_OF: as_of.astimezone(UTC).isoformat().encode(),
        _ROWS: str(rows.num_rows).encode(),
        _SCHEMA: schema.fingerprint().encode(),
    }
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


def read_snapshot(path: Path, schema: Schema, views: tuple[View, ...]) -> ItemSnapshot:
    """The snapshot in `path`; raises SnapshotError where it is missing, damaged, or of another schema or view."""
    if not path.is_file():
        raise SnapshotError(f"{path} does not exist, the item snapshot of an online store: {_HOW_TO_WRITE}")
    try:
        rows = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise SnapshotError(
            f"{path} is no whole Parquet file ({str(error).splitlines()[0]}): {_HOW_TO_WRITE}"
        ) from error
    metadata = rows.schema.metadata or {}
    expected = {_ROWS: str(rows.num_rows), _SCHEMA: schema.fingerprint()}
    for name, value in expected.items():
        actual = metadata.get(name, b"nothing").decode(errors="replace")
        if actual != value:
            raise SnapshotError(
                f"{path}: expected {name.decode()} {value}, found {actual}: the file is of another "
                f"data set or was changed; {_HOW_TO_WRITE}"
            )
    missing = {column.name for column in item_columns(schema, views)} - set(rows.column_names)
    if missing:
        raise SnapshotError(
            f"{path}: expected the features {sorted(missing)} of the model, found none: the views have "
            f"changed since; {_HOW_TO_WRITE}"
        )
    return ItemSnapshot(rows.replace_schema_metadata(), datetime.fromisoformat(metadata[_AS_OF].decode()))
