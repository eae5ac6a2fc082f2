"""The three equalities: what was trained is what is served."""

from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import world

from features.join import join_features
from features.materialize import materialize, newest_snapshot
from features.schema import read_views
from features.store.definitions import SERVICE, open_store

SCHEMA = world.schema()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with its features in the offline and the online store."""
    folder = world.write_features(tmp_path_factory.mktemp("stored"), world.tables(rows=600))
    materialize(schema=folder / "schema.json", features=folder / "features", online=folder / "online.db")
    return folder


def test_online_features_are_offline_features_as_of_the_same_moment(stored: Path) -> None:
    """For every user x scenario x item the online store gives what the join gives as of the store's moment."""
    views = read_views(stored / "features" / "views.json")
    store = open_store(
        SCHEMA, views, features=stored / "features", online=stored / "online.db", registry=stored / "registry.db"
    )
    pairs = pd.MultiIndex.from_product([range(14), range(11), SCHEMA.scenarios]).to_frame(index=False)
    pairs.columns = ["user_id", "item_id", "scenario"]
    online = store.get_online_features(store.get_feature_service(SERVICE), entity_rows=pairs.to_dict("records"))
    offline = join_features(store, SCHEMA, views, impressions(pairs, newest_snapshot(views, stored / "features")))
    found, names = online.to_dict(), [column.name for view in views for column in view.columns]
    for name in names:
        assert found[name] == offline[name].to_pylist(), name
    assert any(value is None for value in found["price"]), "items 9 and 10 are unknown: their features must be null"


def impressions(pairs: pd.DataFrame, moment: datetime) -> pa.Table:
    """One impression per row of `pairs` at `moment`."""
    frame = pairs.assign(event_id=range(len(pairs)), timestamp=moment.replace(tzinfo=None), hour=0, click=0, order=0)
    return pa.Table.from_pandas(frame, preserve_index=False)
