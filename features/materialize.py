"""Stage: the newest features of every user and item into the online store (Feast), and of items into a snapshot.

The online store holds the values as of `end`: the moment after the last snapshot. It is made from nothing, into a
file of its own, so it is a step from files to files like any other; a store that others read while it changes (Redis)
is filled by the flow of the same name, with the same function.
"""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import ibis

from common import stage
from features.schema import EVENT_TIMESTAMP, View, read_schema, read_views
from features.store.definitions import open_store
from features.store.item_snapshot import snapshot_beside, write_snapshot

_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


def materialize(*, schema: Path, features: Path, online: Path) -> None:
    """Write the SQLite online store `online`, and beside it the item snapshot, from the views under `features`."""
    declared, views = read_schema(schema), read_views(features / "views.json")
    online.parent.mkdir(parents=True, exist_ok=True)
    online.unlink(missing_ok=True)
    ibis.set_backend(ibis.duckdb.connect(threads=1))  # one thread: rows in one order, the same bytes every time
    store = open_store(declared, views, features=features, online=online, registry=online.parent / "registry.db")
    end = newest_snapshot(views, features)
    store.materialize(_BEGINNING, end)
    items = write_snapshot(declared, views, features=features, moment=end, path=snapshot_beside(online))
    print(
        f"online store {online} and the snapshot of {items:,} items hold the features as of {end:%Y-%m-%d %H:%M} UTC",
        flush=True,
    )


def newest_snapshot(views: tuple[View, ...], features: Path) -> datetime:
    """The moment of the newest snapshot of all views, UTC."""
    files = [(features / f"{view.name}.parquet").as_posix() for view in views]
    newest = duckdb.sql(f"select max({EVENT_TIMESTAMP}) from read_parquet({files}, union_by_name = true)").fetchone()
    assert newest is not None
    return newest[0].replace(tzinfo=UTC)


if __name__ == "__main__":
    stage.run(materialize)
