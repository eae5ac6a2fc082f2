"""The item snapshot: the newest features of every item as of a moment, one Parquet file beside the online store.

The service keeps it in memory, so that a request costs the online store one row, however many items it asks for. It is
written by whoever writes the online store, from the same rows, and replaced by a rename. The metadata of the file say
what it is of; pages carry checksums, so that a file that was cut or changed is refused with a sentence.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from common import stage
from common.errors import SnapshotError
from features.engine.arrow_types import arrow_schema
from features.schema import EVENT_TIMESTAMP, Column, Schema, View

SUFFIX = ".items.parquet"
_MOMENT, _ROWS, _SCHEMA = b"hinet.moment", b"hinet.rows", b"hinet.schema"
_MAKE = "run `dvc repro materialize`, or `python -m features.refresh` for a store in use"


@dataclass(frozen=True)
class Snapshot:
    """Items, in the order of their ids: id, event_timestamp and the columns of their view; `moment` is UTC."""

    rows: pa.Table
    moment: datetime


def snapshot_beside(online: Path) -> Path:
    """Where the snapshot of the online store `online` lies: online.db -> online.items.parquet."""
    return online.with_suffix(SUFFIX)


def item_columns(schema: Schema, views: tuple[View, ...]) -> tuple[Column, ...]:
    """The columns of the item's own view: what depends on the item alone."""
    return tuple(column for view in views if view.keys == (schema.item,) for column in view.columns)


def write_snapshot(schema: Schema, views: tuple[View, ...], *, features: Path, moment: datetime, path: Path) -> int:
    """Write to `path` the newest row up to `moment` of every item under `features`; returns the number of items."""
    rows = newest_items(schema, views, features, moment)
    facts = {
        _MOMENT: moment.astimezone(UTC).isoformat().encode(),
        _ROWS: str(rows.num_rows).encode(),
        _SCHEMA: schema.fingerprint().encode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        pq.write_table(rows.replace_schema_metadata(facts), file, write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    return rows.num_rows


def newest_items(schema: Schema, views: tuple[View, ...], features: Path, moment: datetime) -> pa.Table:
    """The newest row up to `moment` of every item, in the order of their ids."""
    key = next(column for column in schema.events if column.name == schema.item)
    types = arrow_schema((key, *item_columns(schema, views)))
    types = types.insert(1, pa.field(EVENT_TIMESTAMP, pa.timestamp("us")))
    (view,) = [view for view in views if view.keys == (schema.item,)]
    text = f"""
        select * from read_parquet($path) where {EVENT_TIMESTAMP} <= $moment
        qualify row_number() over (partition by "{key.name}" order by {EVENT_TIMESTAMP} desc) = 1
        order by "{key.name}" """
    asked = {"path": str(features / f"{view.name}.parquet"), "moment": moment.astimezone(UTC).replace(tzinfo=None)}
    with duckdb.connect(config={"memory_limit": "2GB", "threads": stage.threads()}) as connection:
        return connection.execute(text, asked).to_arrow_table().select(types.names).cast(types)


def read_snapshot(path: Path, schema: Schema, views: tuple[View, ...]) -> Snapshot:
    """The snapshot in `path`; raises SnapshotError where it is missing, damaged, or of another schema or view."""
    if not path.is_file():
        raise SnapshotError(f"{path} does not exist, the item snapshot of an online store: {_MAKE}")
    try:
        rows = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise SnapshotError(f"{path} is no whole Parquet file ({str(error).splitlines()[0]}): {_MAKE}") from error
    facts = rows.schema.metadata or {}
    expected = {_ROWS: str(rows.num_rows), _SCHEMA: schema.fingerprint()}
    for name, value in expected.items():
        found = facts.get(name, b"nothing").decode(errors="replace")
        if found != value:
            raise SnapshotError(
                f"{path}: expected {name.decode()} {value}, found {found}: the file is of another "
                f"data set or was changed; {_MAKE}"
            )
    missing = {column.name for column in item_columns(schema, views)} - set(rows.column_names)
    if missing:
        raise SnapshotError(
            f"{path}: expected the features {sorted(missing)} of the model, found none: the views have "
            f"changed since; {_MAKE}"
        )
    return Snapshot(rows.replace_schema_metadata(), datetime.fromisoformat(facts[_MOMENT].decode()))
