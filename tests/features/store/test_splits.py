"""Splits of the impressions: by time at midnights, at random by seed, each with its share of the rows."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import JoinError
from common.params import Join
from features.store.splits import assign_splits, random_split, time_split
from tests.support import world

pytestmark = pytest.mark.unit

SCHEMA = world.schema()


def split(**changes: object) -> Join:
    """Settings of the split, with changes."""
    return Join(**{"split": "time", "valid_share": 0.1, "test_share": 0.2, "seed": 3, **changes})  # type: ignore[arg-type]


def test_time_split_cuts_at_midnights_and_holds_its_shares() -> None:
    """Test is the fewest whole last days with a fifth of the rows, valid the fewest before it with a tenth."""
    daily = [(date(2026, 1, day), 10) for day in range(1, 11)]
    assign = time_split(daily, SCHEMA, split())
    impressions = pa.table(
        {"timestamp": pa.array(pd.date_range("2026-01-01", periods=40, freq="6h"), pa.timestamp("us"))}
    )
    assert assign(impressions).tolist() == [0] * 28 + [1] * 4 + [2] * 8


def test_time_split_of_a_log_that_is_too_short_is_an_error() -> None:
    """With no day left to train on, the error names the days."""
    with pytest.raises(JoinError, match="at least three days with rows, found 2"):
        time_split([(date(2026, 1, 1), 5), (date(2026, 1, 2), 5)], SCHEMA, split())


def test_random_split_refuses_ids_that_are_far_apart(tmp_path: Path) -> None:
    """Those of a client, which the feedback log keeps: a number would be drawn for each id between them."""
    events = world.tables(rows=30)["events"]
    for ids in (events["event_id"] - 1, events["event_id"] * 10**9):
        world.write_validated(tmp_path, world.tables(rows=30) | {"events": events.assign(event_id=ids)})
        with pytest.raises(JoinError, match=r"30 events with ids of their own.*set join.split to time"):
            assign_splits(tmp_path / "events", SCHEMA, split(split="random"))


@settings(deadline=None)
@given(rows=st.integers(20, 3000), seed=st.integers(0, 50))
def test_random_split_holds_its_shares_and_repeats_by_seed(rows: int, seed: int) -> None:
    """Shares are exact to a row, every row has one split, and the seed alone decides."""
    events = pa.table({"event_id": np.arange(rows)})
    codes = random_split(rows, SCHEMA, split(split="random", seed=seed))(events)
    assert np.bincount(codes, minlength=3).tolist() == pytest.approx([0.7 * rows, 0.1 * rows, 0.2 * rows], abs=1)
    assert (codes == random_split(rows, SCHEMA, split(split="random", seed=seed))(events)).all()
