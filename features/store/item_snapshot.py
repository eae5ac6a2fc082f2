"""The item snapshot: the newest features of every item as of a timestamp, one Parquet file next to the online store.

The service keeps it in memory, so a request reads one row of the online store, however many candidates it has. The
snapshot is written together with the online store, from the same rows, and replaced atomically
(features/store/snapshot_writer.py). The file's metadata name its schema and views, which are those of the store; pages
carry checksums, so a truncated or changed file is refused with a clear message.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import SnapshotError
from features.schema import Column, Schema, View, to_json

SUFFIX = ".items.parquet"
_AS_OF, _ROWS, _SCHEMA, _VIEWS = b"hinet.moment", b"hinet.rows", b"hinet.schema", b"hinet.views"
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


def snapshot_metadata(schema: Schema, views: tuple[View, ...], as_of: datetime, rows: int) -> dict[bytes, bytes]:
    """The metadata of a snapshot file: timestamp (UTC), number of rows, the schema's fingerprint, the views."""
    return {
        _AS_OF: as_of.astimezone(UTC).isoformat().encode(),
        _ROWS: str(rows).encode(),
        _SCHEMA: schema.fingerprint().encode(),
        _VIEWS: json.dumps(json.loads(to_json(views)), separators=(",", ":")).encode(),
    }


def verify_snapshot(path: Path, schema: Schema, views: tuple[View, ...]) -> datetime:
    """As of when (UTC) the snapshot in `path` is, from its footer: no row is read.

    Raises SnapshotError where it is missing or damaged, of another schema, or of a store that lacks columns of `views`.
    """
    if not path.is_file():
        raise SnapshotError(f"{path} does not exist, the item snapshot of an online store: {_HOW_TO_WRITE}")
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    return _check(path, footer, schema, views)


def declared_in(path: Path) -> tuple[str, bytes | None] | None:
    """The schema's fingerprint and the views (JSON) in the footer of a snapshot; None where there is no whole file."""
    try:
        metadata: Mapping[bytes, bytes] = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    return metadata.get(_SCHEMA, b"").decode(errors="replace"), metadata.get(_VIEWS)


def read_snapshot(path: Path, schema: Schema, views: tuple[View, ...]) -> ItemSnapshot:
    """The snapshot in `path`; raises SnapshotError where `verify_snapshot` does, and where a page is damaged."""
    as_of = verify_snapshot(path, schema, views)
    try:
        rows = pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    return ItemSnapshot(rows.replace_schema_metadata(), as_of)


def _damaged(path: Path, error: Exception) -> SnapshotError:
    return SnapshotError(f"{path} is no whole Parquet file ({str(error).splitlines()[0]}): {_HOW_TO_WRITE}")


def _check(path: Path, footer: pq.FileMetaData, schema: Schema, views: tuple[View, ...]) -> datetime:
    metadata: Mapping[bytes, bytes] = footer.metadata or {}
    expected = {_ROWS: str(footer.num_rows), _SCHEMA: schema.fingerprint()}
    for name, value in expected.items():
        actual = metadata.get(name, b"nothing").decode(errors="replace")
        if actual != value:
            raise SnapshotError(
                f"{path}: expected {name.decode()} {value}, found {actual}: the file is of another "
                f"data set or was changed; {_HOW_TO_WRITE}"
            )
    missing = {column.name for column in item_columns(schema, views)} - set(footer.schema.to_arrow_schema().names)
    missing |= missing_columns(to_json(views), metadata.get(_VIEWS))
    if missing:
        raise SnapshotError(
            f"{path}: expected the features {sorted(missing)} of the model, found none: the views have "
            f"changed since; {_HOW_TO_WRITE}"
        )
    return datetime.fromisoformat(metadata[_AS_OF].decode())


def missing_columns(needed: str, present: bytes | str | None) -> set[str]:
    """The columns of the views `needed` (JSON) that `present` lacks, or has in another view, with another type or key.

    None are missing from a file that was written before the views were recorded (None).
    """
    if present is None:
        return set()
    return {name for _, _, name, _ in _columns(json.loads(needed)) - _columns(json.loads(present))}


def _columns(views: list[dict[str, Any]]) -> set[tuple[str, tuple[str, ...], str, str]]:
    """View, keys, name and type of every column."""
    return {
        (view["name"], tuple(view["keys"]), column["name"], column["dtype"])
        for view in views
        for column in view["columns"]
    }
