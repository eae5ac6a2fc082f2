"""What a column does from day to day without any change: the question put to today, put to each day of the reference.

A window is compared with the reference, which ends some days before it begins. The same comparison is made inside the
reference: a window of as many days against the days that end as long before it. So a weekly rhythm, a calendar column
and a counter that grows by itself have their usual distance measured, and only what exceeds it is drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from monitoring.detection.statistics import degrees, expected_psi, psi

Counts = NDArray[np.int64]
LEVEL = 0.999  # share of samples without any change that stay inside the noise band
MARGIN = 1.25  # beyond the largest distance that the reference itself has shown
FEWEST = 3  # comparisons inside the reference that make a history


@dataclass(frozen=True, kw_only=True)
class Noise:
    """`history` of the comparisons inside the reference, and `excess`: their mean beyond what sampling alone gives."""

    history: tuple[float, ...]
    excess: float
    largest_excess: float


NONE = Noise(history=(), excess=0.0, largest_excess=0.0)


def noise_of(periods: Counts, *, length: int, gap: int) -> Noise:
    """From counts by period [P, bins] of the reference, for a window of `length` periods that begins `gap` after it."""
    asked = pairs(periods, length=length, gap=gap)
    seen = [(psi(now, before), expected_psi(now, before)) for now, before in asked]
    excess = [max(value - sampling, 0.0) for value, sampling in seen]
    return Noise(
        history=tuple(value for value, _ in seen),
        excess=float(np.mean(excess)) if excess else 0.0,
        largest_excess=max(excess, default=0.0),
    )


def pairs(periods: Counts, *, length: int, gap: int) -> list[tuple[Counts, Counts]]:
    """Windows of `length` periods inside the reference, and the periods that end `gap` before each: counts [bins].

    With fewer than FEWEST of them the gap, then the length are shortened: a short reference says what it can. The
    earlier half of the windows is left out: their past is so short that all of it is new.
    """
    length, gap = _that_fit(len(periods), length, gap)
    found = [
        (periods[start : start + length].sum(axis=0), periods[: start - gap].sum(axis=0))
        for start in range(gap + 1, len(periods) - length + 1)
    ]
    told = [(now, before) for now, before in found if now.sum() and before.sum()]
    return told[-max(FEWEST, (len(told) + 1) // 2) :]


def _that_fit(periods: int, length: int, gap: int) -> tuple[int, int]:
    gap = max(min(gap, periods - length - FEWEST), 0)
    return max(min(length, periods - gap - FEWEST), 1), gap


def band(noise: Noise, current: Counts, reference: Counts) -> float:
    """The PSI that a window without drift stays below: sampling, and MARGIN times what the reference has shown."""
    free = degrees(current, reference)
    sampling = expected_psi(current, reference) * stats.chi2.ppf(LEVEL, free) / free
    return float(sampling + MARGIN * noise.largest_excess)


def p_value(value: float, noise: Noise, current: Counts, reference: Counts) -> float:
    """Of a PSI under no change: a chi-squared variable plus what days differ by (Satterthwaite's approximation).

    The day-to-day part counts as if it had one degree of freedom, and is known from so few days that the whole is
    held against an F distribution.
    """
    sampling, free = expected_psi(current, reference), degrees(current, reference)
    if not np.isfinite(sampling):
        return 1.0
    mean = sampling + noise.excess
    effective = mean**2 / (sampling**2 / free + noise.excess**2)
    days = max(len(noise.history), 1) * (mean / max(noise.excess, 1e-12)) ** 2
    return float(stats.f.sf(value / mean, effective, min(days, 1e6)))
