"""Stage: Great Expectations on the online store against the offline store; the quality gate before the service."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from common import params, stage
from features.schema import read_schema, read_views


def inspect_online(*, schema: Path, features: Path, online: Path, report: Path, docs: Path) -> None:
    """Check the SQLite online store `online`, of which a copy is opened, and its item snapshot.

    Both are compared with the views under `features`. Writes the report and Data Docs in either case; raises
    ValidationError if a critical rule is broken, SnapshotError if the snapshot cannot be read.
    """
    from features.quality import gate
    from features.quality.online_store import GATE, check_online, check_snapshot
    from features.store.definitions import open_store
    from features.store.item_snapshot import item_snapshot_path, read_snapshot

    declared, views, sample = read_schema(schema), read_views(features / "views.json"), params.load().inspect.sample
    with TemporaryDirectory() as scratch:
        copy, registry = Path(scratch) / "online.db", Path(scratch) / "registry.db"
        shutil.copyfile(online, copy)
        store = open_store(declared, views, features=features, online=copy, registry=registry)
        suites = check_online(store, declared, views, features, sample)
    items = read_snapshot(item_snapshot_path(online), declared, views).rows
    suites.append(check_snapshot(items, declared, views, features, sample))
    gate.enforce(GATE, suites, name=declared.name, compared=(online, features), report=report, docs=docs)


if __name__ == "__main__":
    stage.run(inspect_online)
