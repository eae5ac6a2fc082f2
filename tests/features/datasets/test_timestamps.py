"""Numbers since 1970 as timestamps: another unit than the declared one is an error that names it."""

import datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SourceError
from features.datasets.timestamps import UNITS, Unit, from_epoch

pytestmark = pytest.mark.unit


@given(
    timestamps=st.lists(st.datetimes(datetime.datetime(1971, 1, 2), datetime.datetime(2199, 1, 1)), min_size=1),
    unit=st.sampled_from(list(UNITS)),
    given_as=st.sampled_from(list(UNITS)),
)
def test_a_wrong_unit_is_named(timestamps: list[datetime.datetime], unit: Unit, given_as: Unit) -> None:
    """Timestamps of any of four units are read exactly in their own unit, and refused in each other one."""
    seconds = [when.replace(tzinfo=datetime.UTC, microsecond=0) for when in timestamps]
    numbers = pd.Series([int(when.timestamp()) * UNITS[given_as][1] for when in seconds])
    if unit == given_as:
        read = from_epoch(numbers, unit, "ratings.dat")
        assert [when.to_pydatetime() for when in read] == [when.replace(tzinfo=None) for when in seconds]
        return
    expected, actual = UNITS[unit][0], UNITS[given_as][0]
    with pytest.raises(SourceError, match=f"ratings.dat: expected .* in {expected} .* which are {actual}"):
        from_epoch(numbers, unit, "ratings.dat")


def test_single_broken_timestamps_stay_for_the_quality_gate() -> None:
    """One timestamp of the year 33658 among usual ones is read; one beyond 64 bits of microseconds is refused."""
    seconds = pd.Series([1_000_000_000_000, *[1_700_000_000] * 3])
    assert str(from_epoch(seconds, "s", "log").to_numpy()[0]).startswith("33658-09-27")
    with pytest.raises(SourceError, match="log, row 0: 9223372036854775807 is no timestamp in seconds"):
        from_epoch(seconds.replace(1_000_000_000_000, 2**63 - 1), "s", "log")
