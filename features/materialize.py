"""Stage: the newest features of every user and item into the online store (Feast), and of every item into a snapshot.

The online store holds the values as of the newest row of all views. It is made from nothing, into a new file: a
step from files to files. A store that others read while it changes is updated by `features.refresh`.
"""

from pathlib import Path

from common import stage
from features.schema import read_schema, read_views


def materialize(*, schema: Path, features: Path, online: Path) -> None:
    """Write the SQLite online store `online`, and next to it the item snapshot, from the views under `features`."""
    from features.store.bulk_writes import unshared
    from features.store.definitions import definitions, open_store
    from features.store.ibis_backend import set_ibis_backend
    from features.store.incremental import BEGINNING
    from features.store.item_snapshot import item_snapshot_path
    from features.store.offline_store import newest_timestamp
    from features.store.registry import register
    from features.store.snapshot_writer import write_snapshot

    declared, views = read_schema(schema), read_views(features / "views.json")
    online.parent.mkdir(parents=True, exist_ok=True)
    registry = online.parent / "registry.db"
    for old in (online, registry):
        old.unlink(missing_ok=True)
    set_ibis_backend(threads=1)  # one thread: rows in one order, the same bytes every time
    try:
        store = open_store(declared, views, features=features, online=online, registry=registry)
        register(store, definitions(declared, views, features))
        as_of = newest_timestamp(views, features)
        with unshared(store):
            store.materialize(BEGINNING, as_of)
        items = write_snapshot(declared, views, features=features, as_of=as_of, path=item_snapshot_path(online))
    except BaseException:
        online.unlink(missing_ok=True)  # so that half a store is not taken for one
        raise
    print(
        f"online store {online} and the snapshot of {items:,} items hold the features as of {as_of:%Y-%m-%d %H:%M} UTC",
        flush=True,
    )


if __name__ == "__main__":
    stage.run(materialize)
