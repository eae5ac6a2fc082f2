"""Histograms of regression targets: what the histograms of features are for columns, and rates for labels of 0 and 1.

Sums are of integers (millionths), as in features/encoding/histograms.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoding.bins import Bins, fit_numbers
from features.engine import sql
from features.engine.protocol import Engine
from features.schema import Kind, Schema

Counts = NDArray[np.int64]
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class TargetCounts:
    """The observed labels of a regression task in a window of P periods, D days and S scenarios.

    Args:
        bins: bins of the label; none is missing.
        counts: rows in each bin [P, S, bins].
        daily: of each day the observed rows, and the sums of label / `bins.unit` and of its square in millionths
            [D, S, 3].
    """

    bins: Bins
    counts: Counts
    daily: Counts

    def merge(self, later: "TargetCounts", *, days: int, periods: int) -> "TargetCounts":
        """The counts of this window and of a later one, `days` (and `periods`) without rows between them."""
        daily, counts = ((self.daily, later.daily, days), (self.counts, later.counts, periods))
        return TargetCounts(bins=self.bins, counts=append(*counts), daily=append(*daily))

    def to_plain(self) -> dict[str, Any]:
        """A dictionary of plain values for JSON."""
        return {"bins": self.bins.to_plain(), "counts": self.counts.tolist(), "daily": self.daily.tolist()}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "TargetCounts":
        """The counts whose `to_plain` went through JSON."""
        return cls(bins=Bins.of(plain["bins"]), counts=np.array(plain["counts"]), daily=np.array(plain["daily"]))


def fit_targets(engine: Engine, schema: Schema) -> tuple[Bins, ...]:
    """The bins of every regression target, fitted on the relation `training`."""
    return tuple(fit_numbers(engine, [Bins(name=task, column=task, kind=Kind.NUMERIC) for task in schema.regressed]))


def count_targets(
    engine: Engine, bins: Sequence[Bins], *, days: int, periods: int, scenarios: int
) -> dict[str, TargetCounts]:
    """The counts of each target on frozen bins, over the relation `rows` of features/encoding/histogram_counts.py."""
    return {one.column: _count(engine, one, days, periods, scenarios) for one in bins}


def _count(engine: Engine, bins: Bins, days: int, periods: int, scenarios: int) -> TargetCounts:
    unit, low, *inner, high = sql.by_decimals([bins.unit, *bins.edges])
    steps = " ".join(f"when value < {edge} then {index}" for index, edge in enumerate(inner, start=2))
    total, square = (f"sum({sql.rounded(f'{part} * {MILLION}')})::bigint" for part in ("part", "part * part"))
    table = engine.rows(f"""
        select __scenario, __day, __period, bin, count(*), {total}, {square}
        from (select *, greatest(least(value / {unit}, 1e3), -1e3) as part,
                     case when value < {low} then 1 when value > {high} then {bins.count - 1} {steps}
                          else {bins.count - 2} end as bin
              from (select __scenario, __day, __period, {sql.column(bins.column)}::double as value from rows)
              where value is not null)
        group by all""")
    counts, daily = np.zeros((periods, scenarios, bins.count), np.int64), np.zeros((days, scenarios, 3), np.int64)
    for scenario, day, period, index, *sums in table:
        counts[period, scenario, index] += sums[0]
        daily[day, scenario] += sums
    return TargetCounts(bins=bins, counts=counts, daily=daily)


def append(first: Counts, second: Counts, gap: int) -> Counts:
    """Both along the first axis, with `gap` rows of zeros between them."""
    return np.concatenate([first, np.zeros((gap, *first.shape[1:]), np.int64), second])
