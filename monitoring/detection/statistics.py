"""Distances between two histograms on the same bins, tests of rates, and the correction for many tests.

The population stability index of samples from one distribution is about (k - 1)(1/n + 1/m) for k bins and n and m rows
(Yurdakul 2018). The variation from day to day adds to it: it is measured on the days of the reference
(monitoring/detection/noise_band.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

Floats = NDArray[np.float64]
PSEUDO_COUNT = 0.5  # rows added to each bin, so that an empty one has a logarithm (Jeffreys)


def shares(counts: NDArray[np.int64]) -> Floats:
    """Counts [..., bins] as shares; zeros where there are no rows."""
    result: Floats = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return result


def psi(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Population stability index: sum over the bins of (p - q) ln(p / q), over bins with rows in either window."""
    kept = (current > 0) | (reference > 0)
    if kept.sum() < 2:
        return 0.0
    p, q = (_smoothed(counts[kept]) for counts in (current, reference))
    return float(((p - q) * np.log(p / q)).sum())


def _smoothed(counts: NDArray[np.int64]) -> Floats:
    raised = counts + PSEUDO_COUNT
    result: Floats = raised / raised.sum()
    return result


def expected_psi(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """The expected `psi` of two samples of one distribution: (k - 1)(1/n + 1/m)."""
    rows = current.sum(), reference.sum()
    if not min(rows):
        return np.inf
    return float((degrees(current, reference)) * (1 / rows[0] + 1 / rows[1]))


def degrees(current: NDArray[np.int64], reference: NDArray[np.int64]) -> int:
    """Degrees of freedom: bins in use, less one."""
    return max(int(((current > 0) | (reference > 0)).sum()) - 1, 1)


def js_distance(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Jensen-Shannon distance, base 2: 0 where the shares are equal, 1 where they have no bin in common."""
    p, q = shares(current), shares(reference)
    return float(np.nan_to_num(jensenshannon(p, q, base=2))) if p.any() and q.any() else 0.0


def largest_move(current: NDArray[np.int64], reference: NDArray[np.int64]) -> tuple[float, int]:
    """The largest difference of the shares, current - reference, and the index of its bin."""
    moved = shares(current) - shares(reference)
    index = int(np.abs(moved).argmax())
    return float(moved[index]), index


def wasserstein(
    current: NDArray[np.int64], reference: NDArray[np.int64], current_sums: Floats, reference_sums: Floats
) -> float | None:
    """Wasserstein-1 distance of a number in standard deviations of the reference, from the rows and sum of each bin.

    All rows of a bin count as its mean. None without rows, or where the reference is constant.
    """
    (p, values), (q, reference_values) = (
        _points(counts, sums) for counts, sums in ((current, current_sums), (reference, reference_sums))
    )
    if not len(p) or not len(q):
        return None
    mean = np.average(reference_values, weights=q)
    deviation = np.sqrt(np.average((reference_values - mean) ** 2, weights=q))
    return float(stats.wasserstein_distance(values, reference_values, p, q) / deviation) if deviation else None


def _points(counts: NDArray[np.int64], sums: Floats) -> tuple[NDArray[np.int64], Floats]:
    kept = counts[1:] > 0  # the first bin is of missing values
    return counts[1:][kept], sums[1:][kept] / counts[1:][kept]


@dataclass(frozen=True)
class Rate:
    """A share of a window, the expected one of the reference with its band, and the two-sided p-value."""

    value: float
    expected: float
    low: float
    high: float
    p_value: float


def compare_rates(
    positives: float,
    rows: float,
    reference_positives: float,
    reference_rows: float,
    *,
    spread: float = 1.0,
    level: float = 0.998,
) -> Rate | None:
    """Two-sample test of proportions: positives / rows against the reference's; None without rows.

    Args:
        positives: positive rows of the window.
        rows: rows of the window.
        reference_positives: positive rows of the reference.
        reference_rows: rows of the reference.
        spread: factor by which the variance exceeds the binomial one (`overdispersion`).
        level: share of samples without a change that stay inside the band.
    """
    if not rows or not reference_rows:
        return None
    value, expected = positives / rows, reference_positives / reference_rows
    pooled = (positives + reference_positives + PSEUDO_COUNT) / (rows + reference_rows + 2 * PSEUDO_COUNT)
    deviation = np.sqrt(spread * pooled * (1 - pooled) * (1 / rows + 1 / reference_rows))
    reach = stats.norm.isf((1 - level) / 2) * deviation
    p_value = 2 * stats.norm.sf(abs(value - expected) / deviation)
    return Rate(value, expected, max(expected - reach, 0.0), min(expected + reach, 1.0), float(p_value))


def compare_means(now: Floats, then: Floats, *, spread: float = 1.0, level: float = 0.998) -> Rate | None:
    """Two-sample test of means; None without rows.

    Args:
        now: rows of the window, sum of their values, sum of the squares.
        then: the same of the reference.
        spread: factor by which the variance exceeds that of independent rows (`overdispersion_of_means`).
        level: share of samples without a change that stay inside the band.
    """
    if not now[0] or not then[0]:
        return None
    value, expected = now[1] / now[0], then[1] / then[0]
    deviation = np.sqrt(spread * variance(now + then) * (1 / now[0] + 1 / then[0]))
    reach = stats.norm.isf((1 - level) / 2) * deviation
    p_value = 2 * stats.norm.sf(abs(value - expected) / deviation) if deviation else float(value == expected)
    return Rate(value, expected, expected - reach, expected + reach, float(p_value))


def variance(sums: Floats) -> float:
    """The variance of values from their number, sum and sum of squares."""
    return float(max(sums[2] / sums[0] - (sums[1] / sums[0]) ** 2, 0.0)) if sums[0] else 0.0


def overdispersion_of_means(days: Floats) -> float:
    """Variance of daily means over that of means of independent rows, at least 1; days [D, 3] as in `compare_means`."""
    kept, total = days[days[:, 0] > 0], days.sum(axis=0)
    if len(kept) < 2 or not variance(total):
        return 1.0
    pearson = (kept[:, 0] * (kept[:, 1] / kept[:, 0] - total[1] / total[0]) ** 2).sum() / variance(total)
    return float(max(pearson / (len(kept) - 1), 1.0))


def auc_deviation(auc: float, positives: int, negatives: int) -> float:
    """Standard deviation of an AUC on so many rows, for any scores (Hanley and McNeil 1982)."""
    won, lost = auc / (2 - auc), 2 * auc**2 / (1 + auc)  # P(a positive beats two negatives), P(two positives beat one)
    spread = (positives - 1) * (won - auc**2) + (negatives - 1) * (lost - auc**2)
    return float(np.sqrt((auc * (1 - auc) + spread) / (positives * negatives)))


def overdispersion(positives: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """Variance of daily shares over the binomial one: Pearson's chi-squared over its degrees of freedom, at least 1."""
    kept = rows > 0
    if kept.sum() < 2:
        return 1.0
    share = (positives[kept].sum() + PSEUDO_COUNT) / (rows[kept].sum() + 2 * PSEUDO_COUNT)
    pearson = ((positives[kept] - rows[kept] * share) ** 2 / (rows[kept] * share * (1 - share))).sum()
    return float(max(pearson / (kept.sum() - 1), 1.0))


def adjusted(p_values: Floats) -> Floats:
    """p-values corrected for their number (Benjamini-Yekutieli, valid for any dependence between the tests)."""
    return np.asarray(stats.false_discovery_control(p_values, method="by")) if len(p_values) else p_values
