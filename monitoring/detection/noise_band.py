"""The noise band of a statistic: its usual size between days of the reference, without any drift.

A window is compared with the reference, which ends some days before it begins. The same comparison is made inside the
reference: windows of as many days, each against the days that end as long before it. So the usual distance of a weekly
rhythm, of a calendar column and of a growing counter is measured, and only a larger distance is drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitoring.detection.statistics import degrees, expected_psi, psi

Counts = NDArray[np.int64]
LEVEL = 0.999  # share of samples without any change that stay inside the noise band
MARGIN = 1.25  # factor on the largest distance inside the reference
FEWEST = 3  # comparisons inside the reference that make a history


@dataclass(frozen=True, kw_only=True)
class Noise:
    """`history` of the comparisons inside the reference; mean and largest `excess` over the sampling error."""

    history: tuple[float, ...]
    excess: float
    largest_excess: float


NO_NOISE = Noise(history=(), excess=0.0, largest_excess=0.0)


def measure_noise(periods: Counts, *, length: int, gap: int) -> Noise:
    """The noise of the PSI, from counts by period [P, bins] of the reference.

    It is that of a window of `length` periods that begins `gap` periods after the reference.
    """
    pairs = reference_pairs(periods, length=length, gap=gap)
    distances = [(psi(now, before), expected_psi(now, before)) for now, before in pairs]
    excess = [max(value - sampling, 0.0) for value, sampling in distances]
    return Noise(
        history=tuple(value for value, _ in distances),
        excess=float(np.mean(excess)) if excess else 0.0,
        largest_excess=max(excess, default=0.0),
    )


def reference_pairs(periods: Counts, *, length: int, gap: int) -> list[tuple[Counts, Counts]]:
    """Windows of `length` periods inside the reference, each with the periods that end `gap` before it: counts [bins].

    With fewer than FEWEST of them the gap, then the length are shortened, so that a short reference has a history, too.
    The earlier half of the windows is left out: their past is so short that every value in it is new.
    """
    length, gap = _that_fit(len(periods), length, gap)
    pairs = [
        (periods[start : start + length].sum(axis=0), periods[: start - gap].sum(axis=0))
        for start in range(gap + 1, len(periods) - length + 1)
    ]
    with_rows = [(now, before) for now, before in pairs if now.sum() and before.sum()]
    return with_rows[-max(FEWEST, (len(with_rows) + 1) // 2) :]


def _that_fit(periods: int, length: int, gap: int) -> tuple[int, int]:
    gap = max(min(gap, periods - length - FEWEST), 0)
    return max(min(length, periods - gap - FEWEST), 1), gap


def band(noise: Noise, current: Counts, reference: Counts) -> float:
    """The PSI that a window without drift stays below: the sampling error, and MARGIN times the largest excess."""
    free = degrees(current, reference)
    sampling = expected_psi(current, reference) * stats.chi2.ppf(LEVEL, free) / free
    return float(sampling + MARGIN * noise.largest_excess)


def p_value(value: float, noise: Noise, current: Counts, reference: Counts) -> float:
    """The p-value of a PSI under no change: chi-squared plus day-to-day variation (Satterthwaite's approximation).

    The day-to-day part counts as one degree of freedom. It is estimated from few days, so the statistic is compared
    with an F distribution.
    """
    sampling, free = expected_psi(current, reference), degrees(current, reference)
    if not np.isfinite(sampling):
        return 1.0
    mean = sampling + noise.excess
    effective = mean**2 / (sampling**2 / free + noise.excess**2)
    days = max(len(noise.history), 1) * (mean / max(noise.excess, 1e-12)) ** 2
    return float(stats.f.sf(value / mean, effective, min(days, 1e6)))
