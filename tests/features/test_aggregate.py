"""Stage aggregate: statistics equal to a simple loop, without any value of the future."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.params import Aggregate
from features.aggregate import aggregate
from features.engine.feature_views import feature_views
from features.schema import to_json
from tests.support import spark, world
from tests.support.examples import examples

pytestmark = pytest.mark.integration

SETTINGS = Aggregate(windows=[1, 3], prior_impressions=4, recent_items=3, delay_minutes=60)


def snapshots(tmp: Path, tables: dict[str, pd.DataFrame], view: str, recent_items: int = 3) -> pd.DataFrame:
    """Run the stage on `tables` in the folder `tmp` and read one view."""
    world.write_validated(tmp / "validated", tables)
    (tmp / "schema.json").write_text(to_json(world.schema()))
    world.write_params(
        tmp, aggregate__windows=[1, 3], aggregate__prior_impressions=4, aggregate__recent_items=recent_items
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp)
        aggregate(schema=tmp / "schema.json", validated=tmp / "validated", out=tmp / "features")
    return pd.read_parquet(tmp / "features" / f"{view}.parquet")


def _mine(frame: pd.DataFrame, keys: dict) -> np.ndarray:
    return np.logical_and.reduce([frame[name].to_numpy() == value for name, value in keys.items()])


def as_of(frame: pd.DataFrame, keys: dict, timestamp: pd.Timestamp) -> pd.Series | None:
    """The newest row of an entity that is not later than `timestamp`: the point-in-time rule, as a loop."""
    rows = frame[_mine(frame, keys) & (frame["event_timestamp"] <= timestamp)]
    return None if rows.empty else rows.sort_values("event_timestamp").iloc[-1]


def slow_statistics(
    events: pd.DataFrame, keys: dict, day: pd.Timestamp, days: int, written: pd.Timestamp
) -> tuple[int, list[float]]:
    """Impressions over `days` days before `day`, and rates smoothed to the overall rate when the row was written."""
    past = events[events["timestamp"] < day]
    overall = events[events["timestamp"] < written.normalize()]
    mine = past[_mine(past, keys)]
    mine = mine[mine["timestamp"] >= day - pd.Timedelta(days=days)]
    rates = [(mine[task].sum() + 4 * overall[task].mean()) / (mine[task].count() + 4) for task in ("click", "order")]
    return len(mine), rates


@pytest.mark.parametrize(
    ("view", "keys"),
    [("user", ["user_id"]), ("item", ["item_id"]), ("user_in_scenario", ["user_id", "scenario"])],
)
@settings(max_examples=examples(5), deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(5, 60))
def test_every_snapshot_equals_a_filter_over_the_past(
    tmp_path_factory: pytest.TempPathFactory, view: str, keys: list[str], seed: int, rows: int
) -> None:
    """Whatever the log, counts and rates of each window equal those counted by filtering the days before."""
    tables = world.tables(rows=rows, seed=seed, days=7)
    actual = snapshots(tmp_path_factory.mktemp("world"), tables, view)
    events = tables["events"]
    for entity in actual[keys].drop_duplicates().itertuples(index=False):
        key = dict(zip(keys, entity, strict=True))
        for day in pd.date_range(events["timestamp"].min().normalize(), events["timestamp"].max().normalize()):
            row = as_of(actual, key, day + pd.Timedelta(hours=1))
            for window, days in (("1d", 1), ("3d", 3), ("all", 10_000)):
                if row is None:
                    assert _mine(events[events["timestamp"] < day], key).sum() == 0
                    continue
                count, rates = slow_statistics(events, key, day, days, row["event_timestamp"])
                assert row[f"{view}_impressions_{window}"] == count
                if count:
                    assert row[[f"{view}_{t}_rate_{window}" for t in ("click", "order")]].tolist() == pytest.approx(
                        rates, rel=1e-6
                    )


def test_recent_items_are_the_newest_clicked_of_the_days_before(tmp_path: Path) -> None:
    """The list holds the last three items clicked before the day of the snapshot, newest last; and the newest's day."""
    tables = world.tables(rows=300, seed=3)
    actual = snapshots(tmp_path, tables, "user")
    clicked = tables["events"].query("click == 1")
    for row in actual[actual["event_timestamp"] >= world.START].itertuples():
        before = clicked[(clicked["user_id"] == row.user_id) & (clicked["timestamp"] < row.event_timestamp.normalize())]
        expected = before["item_id"].tolist()[-3:]
        assert ([] if row.user_recent_items is None else list(row.user_recent_items)) == expected
        newest = before["timestamp"].max()
        wanted = np.nan if pd.isna(newest) else (newest - pd.Timestamp(0)).days
        assert row.user_recent_items_newest_day == pytest.approx(wanted, nan_ok=True)


def test_no_value_of_the_future_enters_a_snapshot(tmp_path: Path) -> None:
    """Shuffle every label from day 4 on: all snapshots known by the end of day 4 stay the same to the bit."""
    tables = world.tables(rows=500, days=8, seed=5)
    known = pd.Timestamp(world.START) + pd.Timedelta(days=5)
    changed = {name: table.copy() for name, table in tables.items()}
    future = changed["events"]["timestamp"] >= world.START + pd.Timedelta(days=4)
    shuffled = changed["events"].loc[future, ["item_id", "click", "order"]].sample(frac=1, random_state=0)
    for column in shuffled:
        changed["events"].loc[future, column] = shuffled[column].to_numpy()
    for view in ("user", "item", "user_in_scenario"):
        before = snapshots(tmp_path / view / "a", _made(tmp_path / view / "a", tables), view)
        after = snapshots(tmp_path / view / "b", _made(tmp_path / view / "b", changed), view)
        past = [frame[frame["event_timestamp"] < known - pd.Timedelta(days=1)] for frame in (before, after)]
        assert len(past[0]) > 20
        pd.testing.assert_frame_equal(past[0].reset_index(drop=True), past[1].reset_index(drop=True))
        assert not before.equals(after)


def _made(folder: Path, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    folder.mkdir(parents=True)
    return tables


def test_one_row_per_entity_and_timestamp_from_the_time_it_is_known(tmp_path: Path) -> None:
    """No two rows of a user have the same timestamp; the first is of the registration, with the profile."""
    tables = world.tables(rows=200)
    actual = snapshots(tmp_path, tables, "user")
    assert not actual.duplicated(["user_id", "event_timestamp"]).any()
    first = actual.sort_values("event_timestamp").groupby("user_id", sort=True).head(1).sort_values("user_id")
    assert first["event_timestamp"].tolist() == tables["users"]["registered_at"].tolist()
    assert (first["user_impressions_all"] == 0).all()
    cities = actual.merge(tables["users"], on="user_id", suffixes=("", "_declared"))
    assert cities["city"].equals(cities["city_declared"])


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    """Two runs on the same log write the same files to the byte."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        snapshots(tmp_path / name, world.tables(rows=2000, users=100), "user")
    for file in sorted((tmp_path / "a" / "features").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / "features" / file.name).read_bytes(), file.name


def test_views_declare_what_the_files_hold(tmp_path: Path) -> None:
    """The columns of each file are the keys, event_timestamp and the declared columns of its view."""
    for view in feature_views(world.schema(), SETTINGS):
        (tmp_path / view.name).mkdir()
        actual = snapshots(tmp_path / view.name, world.tables(rows=50), view.name)
        assert list(actual.columns) == [*view.keys, "event_timestamp", *(column.name for column in view.columns)]


def test_the_mean_of_equal_numbers_is_that_number(tmp_path: Path) -> None:
    """A label of a million is summed as a million: DuckDB's own cast of a float to a decimal is of single precision."""
    tables = spark.numbers_tables(rows=60, seed=0)
    tables["events"]["watch"] = np.float32(1_000_000)
    written = spark.run(spark.write_world(tmp_path, spark.numbers_schema(), tables), spark.DUCKDB)
    means = pd.read_parquet(written / "features" / "user.parquet")["user_watch_mean_all"].dropna()
    assert len(means) > 40
    assert set(means) == {1_000_000}


def test_the_recent_items_of_many_users_need_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30,000 users who click on each of 20 days, in 256 MB: lists of all users at once need more than that."""
    users, days = 30_000, 20
    events = world.tables(rows=users * days, users=users, days=days)["events"]
    start = events["timestamp"].min().normalize()
    clicked = {"user_id": np.repeat(np.arange(users), days), "click": np.int8(1)}
    timestamps = start + pd.to_timedelta(np.tile(np.arange(days), users), unit="D")
    events = events.assign(**clicked, timestamp=timestamps.astype(events["timestamp"].dtype))
    events = events.sort_values("timestamp", kind="stable", ignore_index=True).assign(event_id=np.arange(len(events)))
    monkeypatch.setenv("HINET_MEMORY", "256MB")
    actual = snapshots(tmp_path, {**world.tables(rows=1), "events": events}, "user", recent_items=days)
    last = actual.sort_values("event_timestamp").groupby("user_id").tail(1).sort_values("user_id")
    newest = events.sort_values(["user_id", "timestamp"])["item_id"].to_numpy().reshape(users, days)
    np.testing.assert_array_equal(np.stack(last["user_recent_items"]), newest)
