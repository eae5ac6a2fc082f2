"""An online store in use, updated by the command `refresh`, and its values."""

import contextlib
import json
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from features.refresh import refresh
from features.schema import read_views
from features.store.definitions import open_store
from features.store.incremental import BEGINNING
from tests.support import world

FIRST, DAY = datetime(2026, 1, 6, 12, tzinfo=UTC), timedelta(days=1)
LAST = FIRST + DAY * 5  # after the last snapshot
ONLINE, OUT, FEATURES = Path("online/online.db"), Path("out"), Path("data/features")
Stored = dict[tuple[str, bytes, str], tuple[bytes, int]]


def copy_offline_store(project: Path, folder: Path) -> Path:
    """The offline store of `project` in another folder."""
    shutil.copytree(project / FEATURES, folder / FEATURES)
    shutil.copy(project / "data/schema.json", folder / "data")
    world.write_params(folder)
    return folder


def update(folder: Path, as_of: datetime) -> dict[str, Any]:
    """Refresh up to `as_of`; returns the report."""
    with contextlib.chdir(folder):
        refresh(
            schema=Path("data/schema.json"),
            features=FEATURES,
            online=ONLINE,
            as_of=as_of,
            out=OUT,
        )
        return json.loads((OUT / "refresh.json").read_text())


def stored(online: Path) -> Stored:
    """Every value of an online store with its timestamp."""
    with contextlib.closing(sqlite3.connect(online)) as connection:
        return {
            (view, key, name): (value, timestamp)
            for view in ("user", "item", "user_in_scenario")
            for key, name, value, timestamp in connection.execute(
                f"select entity_key, feature_name, value, event_ts from hinet_{view}"
            )
        }


def materialized(folder: Path, as_of: datetime, tmp_path: Path) -> Stored:
    """Every value of an empty store that Feast materialized up to `as_of`."""
    online = tmp_path / f"{as_of:%d%H}.db"
    online.unlink(missing_ok=True)
    views = read_views(folder / FEATURES / "views.json")
    store = open_store(
        world.schema(), views, features=folder / FEATURES, online=online, registry=tmp_path / "registry.db"
    )
    store.materialize(BEGINNING, as_of)
    return stored(online)


def rewrite_view(folder: Path, view: str, query: str) -> None:
    """Replace the Parquet file of a view by what `query` makes of it (`rows`)."""
    path = folder / FEATURES / f"{view}.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table rows as select * from read_parquet('{path}')")
        connection.execute(f"copy ({query}) to '{path}' (format parquet)")
