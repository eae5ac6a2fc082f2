"""Stage materialize: an online store with the newest values, the same bytes every time."""

import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from features.materialize import materialize
from features.quality.online_store import check_online
from features.schema import read_views
from features.store.definitions import open_store
from tests.support import world

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with its features, six days from START."""
    return world.write_features(tmp_path_factory.mktemp("featured"), world.tables(rows=600))


def fill(featured: Path, online: Path) -> Path:
    """Materialize the features of the tiny world into `online`."""
    materialize(schema=featured / "schema.json", features=featured / "features", online=online)
    return online


def test_the_store_is_the_same_to_the_byte_when_made_again(featured: Path, tmp_path: Path) -> None:
    """Two runs write the same file, also where one existed before."""
    first, second = fill(featured, tmp_path / "a.db"), tmp_path / "b.db"
    second.write_bytes(b"what an interrupted run left")
    assert fill(featured, second).read_bytes() == first.read_bytes()


def test_every_entity_has_one_value_per_feature(featured: Path, tmp_path: Path) -> None:
    """12 users and 9 items have each feature of their view once: none is lost, none is kept twice."""
    views = {view.name: view for view in read_views(featured / "features" / "views.json")}
    with sqlite3.connect(fill(featured, tmp_path / "online.db")) as connection:
        for name, entities in (("user", 12), ("item", 9)):
            (rows,) = connection.execute(f"select count(*) from hinet_{name}").fetchone()
            assert rows == entities * len(views[name].columns)


def test_who_is_known_since_before_1900_is_online(tmp_path: Path) -> None:
    """A user without impressions, registered in 1700, has a profile in the store, and the last gate passes."""
    tables = world.tables(rows=40)
    early = tables["users"].head(1).assign(user_id=99, registered_at=pd.Timestamp("1700-01-01"), city="south")
    tables["users"] = pd.concat([tables["users"], early])
    project = world.write_features(tmp_path, tables)
    views = read_views(project / "features" / "views.json")
    online, registry = fill(project, tmp_path / "online.db"), tmp_path / "registry.db"
    store = open_store(world.schema(), views, features=project / "features", online=online, registry=registry)
    assert store.get_online_features(["user:city"], [{"user_id": 99}]).to_dict()["city"] == ["south"]
    suites = check_online(store, world.schema(), views, project / "features", 20)
    assert not [fault for suite in suites for fault in suite.faults]
