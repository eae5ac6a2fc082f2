"""Timestamps of raw logs: numbers since 1970 become timestamps, and a wrong unit is an error, not another century."""

import datetime
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import SourceError

Unit = Literal["s", "ms", "us", "ns"]
UNITS: dict[Unit, tuple[str, int]] = {  # name, and units in a second
    "s": ("seconds", 1),
    "ms": ("milliseconds", 1_000),
    "us": ("microseconds", 1_000_000),
    "ns": ("nanoseconds", 1_000_000_000),
}
FIRST, END = datetime.datetime(1971, 1, 1), datetime.datetime(2200, 1, 1)  # between which most impressions of a log lie
_SPAN = tuple(when.replace(tzinfo=datetime.UTC).timestamp() for when in (FIRST, END))
_LARGEST = 2**63 - 1


def from_epoch(values: pd.Series, unit: Unit, where: str) -> pd.Series:
    """Whole numbers since 1970 (UTC) as timestamps in microseconds.

    Raises SourceError where the numbers are of another unit, by their median, or do not fit into 64 bits.
    """
    name, per_second = UNITS[unit]
    if (guess := likely_unit(values)) not in (unit, None):
        assert guess is not None
        raise SourceError(
            f"{where}: expected timestamps in {name} since 1970 (UTC), found e.g. {values.iloc[0]}, which are "
            f"{UNITS[guess][0]}: give unit={guess!r}, or divide them before"
        )
    numbers = values.to_numpy("int64")
    most = min(_LARGEST * per_second // 1_000_000, _LARGEST)
    if len(beyond := np.flatnonzero((numbers > most) | (numbers < -most))):
        raise SourceError(
            f"{where}, row {beyond[0]}: {numbers[beyond[0]]} is no timestamp in {name} since 1970: it lies beyond what "
            "64 bits of microseconds can hold; the reader must leave such rows out"
        )
    return pd.Series(numbers.astype(f"datetime64[{unit}]").astype("datetime64[us]"), values.index, name=values.name)


def likely_unit(values: pd.Series) -> Unit | None:
    """The unit in which the median of numbers since 1970 lies between 1971 and 2200; None where there is none."""
    median = float(values.median()) if len(values) else 0.0
    return next((unit for unit, (_, n) in UNITS.items() if _SPAN[0] <= median / n < _SPAN[1]), None)


def check_century(timestamps: pa.ChunkedArray, name: str, where: str) -> None:
    """Raises SourceError where most timestamps lie before 1971 or after 2199: numbers read in another unit do."""
    first, end = (pa.scalar(bound, timestamps.type) for bound in (FIRST, END))
    usual = pc.sum(pc.and_(pc.greater_equal(timestamps, first), pc.less(timestamps, end))).as_py() or 0
    known = len(timestamps) - timestamps.null_count
    if 2 * usual >= known:
        return
    least = pc.min(timestamps).cast(pa.string()).as_py()
    raise SourceError(
        f"{where}: {known - usual:,} of {known:,} timestamps in {name} lie before {FIRST.year} or after "
        f"{END.year - 1}, the earliest is {least}: numbers since 1970 were read in another unit. Convert them in the "
        "reader with features.datasets.timestamps.from_epoch (unit 's', 'ms', 'us' or 'ns'). If the log truly lies "
        f"there, declare minimum and maximum of {name}."
    )
