"""Histograms of a window of rows as the encoder sees them: counts by column, scenario and period on frozen bins.

Small whatever the number of rows, and mergeable: two windows without a day in common are merged by addition. Sums are
of integers (millionths), so that the same rows give the same bytes on any number of threads.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import SchemaError
from common.files import write_text
from features.encoding.bins import Bins
from features.encoding.target_counts import TargetCounts, append

Counts = NDArray[np.int64]
Days = tuple[date, date]  # the first and the last day (UTC) of a window


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Histograms of one window, for P periods of `period_days` days, D days, S scenarios and T tasks.

    Args:
        first_day: first day of the window.
        period_days: days of a period.
        scenarios: names of the S scenarios.
        bins: bins of each histogram.
        rows: rows of each day [D, S].
        counts: by name of the bins, the rows or list elements in each bin [P, S, bins].
        sums: by name of numeric bins, the sum of the encoder's scaled numbers in each bin, in millionths [S, bins].
        power_sums: by name of numeric bins, count, sum and sum of squares of the raw number divided by `Bins.unit`,
            the sums in millionths [S, 3].
        effective: by name of a categorical column with more values than bins, exp(entropy) of a day, mean over the
            days [S]; None without values.
        labels: by task, the observed rows and the positives of each day [D, S, 2].
        held_out: of training rows, by name of a categorical column the known values that would be unknown without the
            rows of their day [S]; see features/encoding/held_out.py.
        targets: by regression task, the counts of its labels.
    """

    first_day: date
    period_days: int
    scenarios: tuple[str, ...]
    bins: tuple[Bins, ...]
    rows: Counts
    counts: dict[str, Counts]
    sums: dict[str, list[list[int]]]
    power_sums: dict[str, list[list[int]]]
    effective: dict[str, list[float | None]]
    labels: dict[str, Counts]
    held_out: dict[str, list[int]] = field(default_factory=dict)
    targets: dict[str, TargetCounts] = field(default_factory=dict)

    @property
    def days(self) -> list[date]:
        """The days of the window, those without rows too."""
        return [self.first_day + timedelta(days=day) for day in range(len(self.rows))]

    @property
    def last_day(self) -> date:
        """The last day of the window."""
        return self.days[-1]

    def of(self, name: str) -> Counts:
        """Counts [S, bins] over the whole window."""
        total: Counts = self.counts[name].sum(axis=0)
        return total

    def merge(self, later: "Histograms") -> "Histograms":
        """The histograms of this window and a later one; raises SchemaError where bins or days do not fit together."""
        if later.bins != self.bins or later.scenarios != self.scenarios or later.period_days != self.period_days:
            raise SchemaError("histograms on different bins cannot be merged: count both windows on the same reference")
        gap = (later.first_day - self.last_day).days - 1
        if gap < 0 or (len(self.rows) + gap) % self.period_days:
            raise SchemaError(
                f"windows {self.first_day} .. {self.last_day} and {later.first_day} .. {later.last_day}: "
                "expected the second to begin after the first, at the start of a period"
            )
        periods = (len(self.rows) + gap) // self.period_days - len(next(iter(self.counts.values())))
        return dataclasses.replace(
            self,
            rows=append(self.rows, later.rows, gap),
            counts={name: append(own, later.counts[name], periods) for name, own in self.counts.items()},
            sums={name: _add(own, later.sums[name]) for name, own in self.sums.items()},
            power_sums={name: _add(own, later.power_sums[name]) for name, own in self.power_sums.items()},
            effective={name: _mean(own, later.effective[name]) for name, own in self.effective.items()},
            labels={task: append(own, later.labels[task], gap) for task, own in self.labels.items()},
            targets={
                task: own.merge(later.targets[task], days=gap, periods=periods) for task, own in self.targets.items()
            },
        )

    def write(self, path: Path) -> None:
        """Write as JSON, the same bytes for the same histograms."""
        plain = {
            "first_day": self.first_day.isoformat(),
            "period_days": self.period_days,
            "scenarios": self.scenarios,
            "bins": [bins.to_plain() for bins in self.bins],
            "rows": self.rows.tolist(),
            "counts": {name: counts.tolist() for name, counts in self.counts.items()},
            "sums": self.sums,
            "moments": self.power_sums,
            "effective": self.effective,
            "labels": {task: counts.tolist() for task, counts in self.labels.items()},
            "held_out": self.held_out,
            **({"targets": {task: one.to_plain() for task, one in self.targets.items()}} if self.targets else {}),
        }
        write_text(path, json.dumps(plain, separators=(",", ":"), allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Histograms":
        """The histograms that `write` wrote."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            first_day=date.fromisoformat(plain["first_day"]),
            period_days=plain["period_days"],
            scenarios=tuple(plain["scenarios"]),
            bins=tuple(Bins.of(bins) for bins in plain["bins"]),
            rows=np.array(plain["rows"]),
            counts={name: np.array(counts) for name, counts in plain["counts"].items()},
            sums=plain["sums"],
            power_sums=plain["moments"],
            effective=plain["effective"],
            labels={task: np.array(counts) for task, counts in plain["labels"].items()},
            held_out=plain.get("held_out", {}),  # which older models lack
            targets={task: TargetCounts.of(one) for task, one in plain.get("targets", {}).items()},
        )


def _add(first: list[list[int]], second: list[list[int]]) -> list[list[int]]:
    return [[a + b for a, b in zip(*pair, strict=True)] for pair in zip(first, second, strict=True)]


def _mean(first: list[float | None], second: list[float | None]) -> list[float | None]:
    pairs = zip(first, second, strict=True)
    return [a if b is None else b if a is None else (a + b) / 2 for a, b in pairs]
