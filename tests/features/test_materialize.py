"""Stage materialize: an online store with the newest values, the same bytes every time."""

import sqlite3
from pathlib import Path

import pytest

from features.materialize import materialize
from features.schema import read_views
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
