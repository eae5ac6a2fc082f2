"""The definitions of the Feast repository, made from the declared views."""

from pathlib import Path

import pytest

from features.store.definitions import open_store
from tests.support import world
from tests.support.two_views import VIEWS, write_view

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


def test_feature_views_have_the_columns_of_the_declared_views(tmp_path: Path) -> None:
    """The feature views of the store have the columns of the declared views, by name."""
    write_view(tmp_path, VIEWS[0], {"user_id": [0]}, [world.START], [[1]])
    write_view(tmp_path, VIEWS[1], {"item_id": [0]}, [world.START], [1.0])
    store = open_store(SCHEMA, VIEWS, features=tmp_path, online=tmp_path / "o.db", registry=tmp_path / "r.db")
    columns = {view.name: [field.name for field in view.features] for view in store.list_feature_views()}
    assert columns == {"user": ["last_items"], "item": ["price_seen"]}
