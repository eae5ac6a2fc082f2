"""The number of rows of the window, by scenario, against what the reference has on the same weekdays.

Where a weekday of the window occurs less than twice in the reference, all its days are the comparison, whose variation
then includes the rhythm of the week. The p-value is that of Student's t with the day-to-day variation of the reference,
which a short reference knows badly: there only a large change is a finding.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from features.encoding.histograms import Days, Histograms
from monitoring.detection.noise_band import FEWEST, MARGIN
from monitoring.detection.statistics import Floats

Entry = dict[str, Any]
Counts = NDArray[np.int64]
TWICE = 2  # days of a weekday whose mean is the comparison


def compare_volume(
    reference: Histograms, current: Histograms, days: Days | None, *, fewest: int, served: bool = False
) -> Entry:
    """`scenarios`: an entry for each, with `expected` rows and `change`; `untested`: why none is tested, or None.

    Args:
        reference: histograms of the training rows.
        current: histograms of the window.
        days: the days that the window was to have; None: those from its first row to its last.
        fewest: expected rows with which a scenario is tested.
        served: the window is a sample of the requests.
    """
    untested = _why_untested(reference, current, served)
    first, last = days or (current.first_day, current.last_day)
    weekdays = (first.weekday() + np.arange((last - first).days + 1)) % 7
    daily = DailyRows(reference.rows, reference.first_day.weekday(), weekdays)
    rows, expected = current.rows.sum(axis=0), daily.expected
    p_values, histories = daily.p_values(rows), daily.histories()
    return {
        "untested": untested,
        "same_weekdays": daily.same_weekdays,
        "scenarios": [
            {
                "scenario": name,
                "rows": int(rows[index]),
                "expected": float(expected[index]),
                "change": float(rows[index] / expected[index] - 1) if expected[index] else None,
                "enough_rows": untested is None and bool(expected[index] >= fewest),
                "noise": MARGIN * max(map(abs, histories[index]), default=0.0),
                "p_value": float(p_values[index]),
                "histories": {"volume": histories[index]},
            }
            for index, name in enumerate(reference.scenarios)
        ],
    }


def _why_untested(reference: Histograms, current: Histograms, served: bool) -> str | None:
    if served:
        return "the window is a sample of the requests"
    if current.first_day <= reference.last_day:
        return "the window has days of the reference, so both are parts of the same days"
    if len(reference.rows) <= FEWEST:
        return f"the reference has only {len(reference.rows)} days"
    return None


class DailyRows:
    """Rows of the reference by day [D, S], and what they let expect of days with these weekdays."""

    def __init__(self, rows: Counts, first_weekday: int, weekdays: NDArray[np.int64]) -> None:
        self.rows, self.weekdays = rows, weekdays
        self.of_day = (first_weekday + np.arange(len(rows))) % 7
        occurrences = np.bincount(self.of_day, minlength=7)
        self.same_weekdays = bool((occurrences[weekdays] >= TWICE).all())
        self.group = self.of_day if self.same_weekdays else np.zeros_like(self.of_day)
        self.wanted = weekdays if self.same_weekdays else np.zeros_like(weekdays)

    @property
    def expected(self) -> Floats:
        """Expected rows of the window [S]."""
        return _expected(self.rows, self.group, self.wanted)

    def p_values(self, rows: Counts) -> Floats:
        """Two-sided p-values of so many rows in the window [S]."""
        sizes = np.bincount(self.group, minlength=7)
        kept = sizes[self.group] >= TWICE
        freedom = int(kept.sum() - (sizes >= TWICE).sum())
        means = np.stack([_expected(self.rows, self.group, np.array([own])) for own in self.group])
        pearson = np.where(means > 0, (self.rows - means) ** 2 / np.maximum(means, 1e-9), 0.0)[kept].sum(axis=0)
        spread = np.maximum(pearson / max(freedom, 1), 1.0)
        uncertain = 1 + np.mean(np.bincount(self.wanted, minlength=7)[self.wanted] / np.maximum(sizes[self.wanted], 1))
        deviation = np.sqrt(spread * np.maximum(self.expected, 1.0) * uncertain)
        p_values: Floats = 2 * stats.t.sf(np.abs(rows - self.expected) / deviation, max(freedom, 1))
        return p_values

    def histories(self) -> list[list[float]]:
        """By scenario, the relative changes of windows inside the reference against the days before them."""
        length, days = len(self.weekdays), len(self.rows)
        changes = []
        for start in range(FEWEST, days - min(length, days - FEWEST) + 1):
            own = slice(start, start + length)
            if np.isin(self.group[own], self.group[:start]).all():
                expected = _expected(self.rows[:start], self.group[:start], self.group[own])
                changes.append(self.rows[own].sum(axis=0) / np.maximum(expected, 1.0) - 1)
        by_scenario: list[list[float]] = np.round(np.array(changes).reshape(-1, self.rows.shape[1]).T, 6).tolist()
        return by_scenario


def _expected(rows: Counts, group: NDArray[np.int64], wanted: NDArray[np.int64]) -> Floats:
    """The sum over the days `wanted` (groups) of the mean rows [S] of their group's days."""
    total = np.zeros(rows.shape[1])
    for own in wanted:
        total += rows[group == own].mean(axis=0) if (group == own).any() else 0.0
    return total
