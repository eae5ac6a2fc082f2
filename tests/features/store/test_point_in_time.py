"""The point-in-time join: equal to a loop over all rows, and every row that goes in comes out."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import JoinError
from features.store.definitions import open_store
from features.store.point_in_time import join_features
from tests.support import world
from tests.support.examples import examples
from tests.support.two_views import VIEWS, write_view

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


def newest(frame: pd.DataFrame, key: str, entity: int, as_of: pd.Timestamp, column: str) -> object:
    """The value of the newest row not later than `as_of`, by a loop over all rows."""
    rows = [row for row in frame.itertuples() if getattr(row, key) == entity and row.event_timestamp <= as_of]
    return getattr(max(rows, key=lambda row: row.event_timestamp), column) if rows else None


@settings(max_examples=examples(15), deadline=None)
@given(data=st.data())
def test_every_impression_gets_the_newest_value_of_its_past(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """On random small worlds the join equals a loop over all rows; an equal timestamp counts as past."""
    folder = tmp_path_factory.mktemp("views")
    hours = st.integers(0, 12)
    snapshots = st.lists(st.tuples(st.integers(0, 3), hours), min_size=1, max_size=12, unique=True)
    frames = {}
    for view, key in ((VIEWS[0], "user_id"), (VIEWS[1], "item_id")):
        drawn = data.draw(snapshots)
        values: list = [float(n) if view is VIEWS[1] else [n, n + 1] for n in range(len(drawn))]
        values[0] = None  # a null that was written stays a null: nothing older fills it
        timestamps = [world.START + pd.Timedelta(hours=h) for _, h in drawn]
        frames[key] = write_view(folder, view, {key: [entity for entity, _ in drawn]}, timestamps, values)
    events = world.tables(rows=data.draw(st.integers(1, 30)), users=4, items=4, days=1, seed=data.draw(hours))["events"]
    events["timestamp"] = events["timestamp"].dt.floor("h")
    joined = run(folder, events)
    assert joined["event_id"].to_pylist() == events["event_id"].tolist()
    for row, actual in zip(events.itertuples(), joined.to_pylist(), strict=True):
        assert actual["price_seen"] == newest(frames["item_id"], "item_id", row.item_id, row.timestamp, "price_seen")
        assert actual["last_items"] == newest(frames["user_id"], "user_id", row.user_id, row.timestamp, "last_items")


def run(folder: Path, events: pd.DataFrame) -> pa.Table:
    """`events` joined with the views under `folder`, through a new feature store."""
    store = open_store(SCHEMA, VIEWS, features=folder, online=folder / "online.db", registry=folder / "registry.db")
    return join_features(store, SCHEMA, VIEWS, pa.Table.from_pandas(events, preserve_index=False))


def test_two_values_of_one_timestamp_double_no_row(tmp_path: Path) -> None:
    """Two rows of one item with one timestamp: every impression still comes out once."""
    events = world.tables(rows=20, users=4, items=1, days=1)["events"]
    write_view(tmp_path, VIEWS[0], {"user_id": [0]}, [world.START], [[1]])
    write_view(tmp_path, VIEWS[1], {"item_id": [0, 0]}, [world.START, world.START], [1.0, 2.0])
    assert run(tmp_path, events).num_rows == 20


def test_a_store_that_drops_rows_raises_an_error(tmp_path: Path) -> None:
    """A join that gives back fewer rows than it got raises JoinError with both counts."""

    class Leaky:
        def get_feature_service(self, name: str) -> str:
            return name

        def get_historical_features(self, entities: pd.DataFrame, service: str) -> "Leaky":
            self.entities = entities
            return self

        def to_arrow(self) -> pa.Table:
            return pa.Table.from_pandas(self.entities.iloc[1:], preserve_index=False)

    events = pa.Table.from_pandas(world.tables(rows=20)["events"], preserve_index=False)
    with pytest.raises(JoinError, match="got 20 impressions and gave back 19"):
        join_features(Leaky(), SCHEMA, (), events)  # type: ignore[arg-type]
