"""Statistics that grow with the history of the log: a count of the whole past, or of the last N days in a young log.

Such a statistic differs from its reference without any change: on day 10 an item has more impressions than on days 1 to
8. For a statistic over N days the days of the reference with a shorter history are left out, where enough days remain.
Otherwise its distribution is tested only where its mean has left the range that the age of the history explains.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.encoding.bins import Bins
from features.encoding.histograms import Histograms
from features.schema import Kind
from monitoring.detection.noise_band import FEWEST

SAME_AGE = 1.1  # histories whose mean ages differ by a smaller factor have one distribution
MARGIN = 1.5  # factor by which a mean may exceed what the age explains: items differ, and so do days
SETTLED_PERIODS = 2 * FEWEST  # of the reference that must remain where the days with a short history are left out


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What the history of a column demands: periods of the reference to leave out, and the range of its mean.

    `bounds`: the factors of the mean over that of the reference that the age of the history explains; None: the
    distribution does not grow, or no longer.
    """

    skipped: int = 0
    bounds: tuple[float, float] | None = None

    def explains(self, factor: float | None) -> bool:
        """Whether the age explains that the mean is `factor` times that of the reference; None: it is not known."""
        return self.bounds is not None and (factor is None or self.bounds[0] <= factor <= self.bounds[1])


NO_GROWTH = Growth()


def growth_of(bins: Bins, history_days: Mapping[str, int], reference: Histograms, current: Histograms) -> Growth:
    """The growth of the column of `bins`, from the days of the past that each statistic is computed over."""
    window = history_days.get(bins.column)
    if window is None:
        return NO_GROWTH
    skipped = -(-window // reference.period_days)
    if len(next(iter(reference.counts.values()))) - skipped >= SETTLED_PERIODS:
        return Growth(skipped=skipped)
    then, now = _mean_age(reference, reference, window), _mean_age(current, reference, window)
    factor = now / max(then, 1e-9)
    if 1 / SAME_AGE <= factor <= SAME_AGE:
        return NO_GROWTH
    grows = bins.kind is Kind.SEQUENCE or bins.log  # counts are; the mean of a rate stays, its spread does not
    low, high = (min(factor, 1.0), max(factor, 1.0)) if grows else (1.0, 1.0)
    return Growth(bounds=(low / MARGIN, high * MARGIN))


def _mean_age(window: Histograms, reference: Histograms, longest: int) -> float:
    """The mean age in days of the histories of the rows of `window`, which begin with the reference."""
    first = (window.first_day - reference.first_day).days
    ages: NDArray[np.int64] = np.clip(first + np.arange(len(window.rows)), 0, longest)
    rows = window.rows.sum(axis=1)
    return float(np.average(ages, weights=rows)) if rows.any() else 0.0
