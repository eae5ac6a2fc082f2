"""The stages of a project with session features: what each writes of them, and the quality gates."""

import contextlib
from datetime import UTC
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import params
from features.engine.session_view import session_views
from features.inspect_online import inspect_online
from features.inspect_training import inspect_training
from features.schema import SPLITS, View, read_views
from features.store.definitions import open_store
from features.store.point_in_time import join_features
from tests.support import session_log, tiny_project, world
from tests.support.fixtures import SESSION
from tests.support.refreshed_store import LAST, copy_offline_store, update

pytestmark = pytest.mark.integration

EVENTS = world.tables(rows=600)["events"]


@pytest.fixture(scope="module")
def view(session_project: Path) -> View:
    """The session view of the project."""
    (view,) = session_views(read_views(session_project / "data/features/views.json"))
    return view


def test_the_training_set_has_the_features_of_every_impression(session_project: Path, view: View) -> None:
    """In all splits, each is that of a loop over the user's past."""
    parts = [pq.read_table(session_project / "data/training" / f"{name}.parquet") for name in SPLITS]
    rows = pa.concat_tables(parts).to_pylist()
    assert len(rows) == len(EVENTS)
    for row in rows[::7]:
        expected = session_log.slow_features(
            EVENTS, row["user_id"], pd.Timestamp(row["timestamp"]), view, row["item_id"]
        )
        assert {name: row[name] for name in expected} == expected


def test_the_offline_store_holds_the_newest_events_of_each_user(
    session_project: Path, view: View, tmp_path: Path
) -> None:
    """Joined as of the end of the log they give the features of a loop over the log, of unknown users those of none."""
    data, as_of = session_project / "data", EVENTS["timestamp"].max() + pd.Timedelta(hours=1)
    views = read_views(data / "features/views.json")
    store = open_store(
        world.schema(), views, features=data / "features", online=tmp_path / "o.db", registry=tmp_path / "r.db"
    )
    sample = EVENTS.head(40).assign(timestamp=as_of.as_unit("us"))
    sample.loc[0, "user_id"] = 99
    joined = join_features(store, world.schema(), views, pa.Table.from_pandas(sample, preserve_index=False))
    for row in joined.to_pylist():
        expected = session_log.slow_features(EVENTS, row["user_id"], as_of, view, row["item_id"])
        assert {name: row[name] for name in expected} == expected


def test_the_quality_gates_accept_them(session_project: Path, tmp_path: Path, without_data_docs: None) -> None:
    """Training set and online store: columns, types, and the lists of events of the online store."""
    data = {name: session_project / "data" / name for name in ("validated", "features", "training")}
    schema, reports = session_project / "data/schema.json", {"report": tmp_path / "r.json", "docs": tmp_path / "d"}
    with contextlib.chdir(session_project):
        inspect_training(schema=schema, **data, **reports)
        online = session_project / tiny_project.ONLINE
        inspect_online(schema=schema, features=data["features"], online=online, **reports)
    assert '"session"' in (tmp_path / "r.json").read_text()


def test_without_events_there_is_no_view(project: Path) -> None:
    """By default nothing is computed, written or declared."""
    assert params.load(project / "params.yaml").aggregate.session.events == 0
    assert not session_views(read_views(project / "data/features/views.json"))
    assert not (project / "data/features/session.parquet").exists()
    assert "session" not in (project / "data/features/views.json").read_text()


def test_the_refresh_of_a_store_in_use_writes_them(session_project: Path, tmp_path: Path) -> None:
    """As of a day within the log only the users without later events have a row; as of its end all of them."""
    copy_offline_store(session_project, tmp_path)
    world.write_params(tmp_path, aggregate__session=SESSION)
    newest = EVENTS.groupby("user_id")["timestamp"].max()
    within = (newest.min() + pd.Timedelta(seconds=1)).to_pydatetime().replace(tzinfo=UTC)
    first, last = update(tmp_path, within), update(tmp_path, LAST)
    assert first["views"]["session"]["written"] == (newest < pd.Timestamp(within).tz_localize(None)).sum() > 0
    assert first["views"]["session"]["written"] + last["views"]["session"]["written"] == len(newest)
    assert last["compared"]["session"] == len(newest)
