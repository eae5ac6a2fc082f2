"""The point-in-time join: against a loop, every row out that went in, and splits that cut where they say."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import JoinError
from common.params import Join
from features.join import join
from features.schema import Column, DType, Kind, Role, View
from features.store.definitions import open_store
from features.store.point_in_time import join_features
from features.store.splits import random_split, time_split
from tests.support import world

SCHEMA = world.schema()
NUMBER = Column(name="price_seen", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True)
LIST = Column(name="last_items", role=Role.FEATURE, dtype=DType.INT64_LIST, kind=Kind.SEQUENCE, nullable=True, length=3)
VIEWS = (
    View(name="user", keys=("user_id",), columns=(LIST,)),
    View(name="item", keys=("item_id",), columns=(NUMBER,)),
)


def write_view(folder: Path, view: View, keys: dict[str, list], moments: list, values: list) -> pd.DataFrame:
    """One view's Parquet file, as aggregate would write it."""
    (column,) = view.columns
    moment = pd.Series(moments, dtype="datetime64[us]")
    frame = pd.DataFrame({**keys, "event_timestamp": moment})
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    kind = pa.float32() if column is NUMBER else pa.list_(pa.int64())
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(arrow.append_column(column.name, pa.array(values, kind)), folder / f"{view.name}.parquet")
    return frame.assign(**{column.name: pd.Series(values, dtype=object)})


def newest(frame: pd.DataFrame, key: str, entity: int, moment: pd.Timestamp, column: str) -> object:
    """The value of the newest row not later than `moment`, by looking at every row."""
    rows = [row for row in frame.itertuples() if getattr(row, key) == entity and row.event_timestamp <= moment]
    return getattr(max(rows, key=lambda row: row.event_timestamp), column) if rows else None


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_impression_gets_the_newest_value_of_its_past(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """On random small worlds the join equals a loop over all snapshots; equal moments count as past."""
    folder = tmp_path_factory.mktemp("views")
    hours = st.integers(0, 12)
    snapshots = st.lists(st.tuples(st.integers(0, 3), hours), min_size=1, max_size=12, unique=True)
    frames = {}
    for view, key in ((VIEWS[0], "user_id"), (VIEWS[1], "item_id")):
        drawn = data.draw(snapshots)
        values: list = [float(n) if view is VIEWS[1] else [n, n + 1] for n in range(len(drawn))]
        values[0] = None  # a null that was written stays a null: nothing older fills it
        moments = [world.START + pd.Timedelta(hours=h) for _, h in drawn]
        frames[key] = write_view(folder, view, {key: [entity for entity, _ in drawn]}, moments, values)
    events = world.tables(rows=data.draw(st.integers(1, 30)), users=4, items=4, days=1, seed=data.draw(hours))["events"]
    events["timestamp"] = events["timestamp"].dt.floor("h")
    joined = run(folder, events)
    assert joined["event_id"].to_pylist() == events["event_id"].tolist()
    for row, found in zip(events.itertuples(), joined.to_pylist(), strict=True):
        assert found["price_seen"] == newest(frames["item_id"], "item_id", row.item_id, row.timestamp, "price_seen")
        assert found["last_items"] == newest(frames["user_id"], "user_id", row.user_id, row.timestamp, "last_items")


def run(folder: Path, events: pd.DataFrame) -> pa.Table:
    """`events` joined with the views under `folder`, through a store of its own."""
    store = open_store(SCHEMA, VIEWS, features=folder, online=folder / "online.db", registry=folder / "registry.db")
    return join_features(store, SCHEMA, VIEWS, pa.Table.from_pandas(events, preserve_index=False))


def test_two_values_of_one_moment_double_no_row(tmp_path: Path) -> None:
    """Two snapshots of one item with one moment: every impression still comes out once."""
    events = world.tables(rows=20, users=4, items=1, days=1)["events"]
    write_view(tmp_path, VIEWS[0], {"user_id": [0]}, [world.START], [[1]])
    write_view(tmp_path, VIEWS[1], {"item_id": [0, 0]}, [world.START, world.START], [1.0, 2.0])
    assert run(tmp_path, events).num_rows == 20


def test_a_store_that_drops_rows_is_found_out(tmp_path: Path) -> None:
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


def split(**changes: object) -> Join:
    """Settings of the split, with changes."""
    return Join(**{"split": "time", "valid_share": 0.1, "test_share": 0.2, "seed": 3, **changes})  # type: ignore[arg-type]


def test_time_split_cuts_at_midnights_and_holds_its_shares() -> None:
    """Test is the fewest whole last days with a fifth of the rows, valid the fewest before it with a tenth."""
    daily = [(date(2026, 1, day), 10) for day in range(1, 11)]
    assign = time_split(daily, SCHEMA, split())
    moments = pa.table({"timestamp": pa.array(pd.date_range("2026-01-01", periods=40, freq="6h"), pa.timestamp("us"))})
    assert assign(moments).tolist() == [0] * 28 + [1] * 4 + [2] * 8


def test_time_split_of_a_log_too_short_says_so() -> None:
    """With nothing left to train on the join stops and names the days it found."""
    with pytest.raises(JoinError, match="at least three days with rows, found 2"):
        time_split([(date(2026, 1, 1), 5), (date(2026, 1, 2), 5)], SCHEMA, split())


@given(rows=st.integers(20, 3000), seed=st.integers(0, 50))
def test_random_split_holds_its_shares_and_repeats_by_seed(rows: int, seed: int) -> None:
    """Shares are exact to a row, every row has one split, and the seed alone decides."""
    events = pa.table({"event_id": np.arange(rows)})
    codes = random_split(rows, SCHEMA, split(split="random", seed=seed))(events)
    assert np.bincount(codes, minlength=3).tolist() == pytest.approx([0.7 * rows, 0.1 * rows, 0.2 * rows], abs=1)
    assert (codes == random_split(rows, SCHEMA, split(split="random", seed=seed))(events)).all()


@pytest.mark.parametrize("how", ["time", "random"])
def test_the_stage_writes_every_impression_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """train, valid and test together hold the validated events: each once, unchanged, in order of time."""
    tables = world.tables(rows=300)
    folder = world.write_features(tmp_path, tables)
    world.write_params(folder, join__split=how)
    monkeypatch.chdir(folder)
    join(schema=Path("schema.json"), validated=Path("validated"), features=Path("features"), out=Path("training"))
    parts = [pd.read_parquet(folder / "training" / f"{name}.parquet") for name in ("train", "valid", "test")]
    assert all(part["timestamp"].is_monotonic_increasing for part in parts)
    together = pd.concat(parts).sort_values("event_id").reset_index(drop=True)
    events = tables["events"]
    pd.testing.assert_frame_equal(together[list(events)], events, check_dtype=False)
    if how == "time":
        assert parts[0]["timestamp"].max() < parts[1]["timestamp"].min() < parts[2]["timestamp"].min()


def test_feast_is_told_what_the_views_declare(tmp_path: Path) -> None:
    """The feature views of the store have the columns of the declared views, by name."""
    write_view(tmp_path, VIEWS[0], {"user_id": [0]}, [world.START], [[1]])
    write_view(tmp_path, VIEWS[1], {"item_id": [0]}, [world.START], [1.0])
    store = open_store(SCHEMA, VIEWS, features=tmp_path, online=tmp_path / "o.db", registry=tmp_path / "r.db")
    found = {view.name: [field.name for field in view.features] for view in store.list_feature_views()}
    assert found == {"user": ["last_items"], "item": ["price_seen"]}
