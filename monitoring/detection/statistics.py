"""How far two histograms on the same bins are apart, and how sure one can be of it. Arrays in, numbers out.

The population stability index of samples from one distribution is about (k - 1)(1/n + 1/m) for k bins and n and m rows
(Yurdakul 2018): on top of that comes what differs from day to day without meaning anything, which the days of the
reference show (monitoring/detection/noise_band.py).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import jensenshannon

Floats = NDArray[np.float64]
PRIOR = 0.5  # rows added to each bin, so that an empty one has a logarithm (Jeffreys)


def shares(counts: NDArray[np.int64]) -> Floats:
    """Counts [..., bins] as shares; zeros where there are no rows."""
    total = counts.sum(axis=-1, keepdims=True)
    return counts / np.maximum(total, 1)


def psi(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Population stability index: sum over the bins of (p - q) ln(p / q), over bins that either window has rows in."""
    kept = (current > 0) | (reference > 0)
    if kept.sum() < 2:
        return 0.0
    p, q = (_smoothed(counts[kept]) for counts in (current, reference))
    return float(((p - q) * np.log(p / q)).sum())


def _smoothed(counts: NDArray[np.int64]) -> Floats:
    raised = counts + PRIOR
    return raised / raised.sum()


def expected_psi(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """What `psi` comes to between two samples of one distribution: (k - 1)(1/n + 1/m)."""
    rows = current.sum(), reference.sum()
    if not min(rows):
        return np.inf
    return float((degrees(current, reference)) * (1 / rows[0] + 1 / rows[1]))


def degrees(current: NDArray[np.int64], reference: NDArray[np.int64]) -> int:
    """Bins in use, less one."""
    return max(int(((current > 0) | (reference > 0)).sum()) - 1, 1)


def js_distance(current: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Jensen-Shannon distance, base 2: 0 where the shares are equal, 1 where they have no bin in common."""
    p, q = shares(current), shares(reference)
    return float(np.nan_to_num(jensenshannon(p, q, base=2))) if p.any() and q.any() else 0.0


def largest_move(current: NDArray[np.int64], reference: NDArray[np.int64]) -> tuple[float, int]:
    """L-infinity distance of the shares, signed as current - reference, and the bin that moved so far."""
    moved = shares(current) - shares(reference)
    place = int(np.abs(moved).argmax())
    return float(moved[place]), place


def wasserstein(
    current: NDArray[np.int64], reference: NDArray[np.int64], current_sums: Floats, reference_sums: Floats
) -> float | None:
    """Wasserstein-1 distance of a number over the reference's standard deviation, from each bin's rows and sum.

    A bin counts as if all of its rows were at its mean. None without rows, or where the reference never varies.
    """
    (p, at), (q, there) = (
        _points(counts, sums) for counts, sums in ((current, current_sums), (reference, reference_sums))
    )
    if not len(p) or not len(q):
        return None
    mean = np.average(there, weights=q)
    deviation = np.sqrt(np.average((there - mean) ** 2, weights=q))
    return float(stats.wasserstein_distance(at, there, p, q) / deviation) if deviation else None


def _points(counts: NDArray[np.int64], sums: Floats) -> tuple[NDArray[np.int64], Floats]:
    kept = counts[1:] > 0  # the first bin is of missing values
    return counts[1:][kept], sums[1:][kept] / counts[1:][kept]


@dataclass(frozen=True)
class Rate:
    """A share of a window against what the reference expects: its band, and how surprising it is (two-sided)."""

    value: float
    expected: float
    low: float
    high: float
    p_value: float


def rate(
    hits: float, rows: float, reference_hits: float, reference_rows: float, *, spread: float = 1.0, level: float = 0.998
) -> Rate | None:
    """The share hits / rows against the reference's, as of the two-sample test of proportions; None without rows.

    `spread` is by how much the variance exceeds the binomial one (`overdispersion`); the band holds with `level`.
    """
    if not rows or not reference_rows:
        return None
    value, expected = hits / rows, reference_hits / reference_rows
    pooled = (hits + reference_hits + PRIOR) / (rows + reference_rows + 2 * PRIOR)
    deviation = np.sqrt(spread * pooled * (1 - pooled) * (1 / rows + 1 / reference_rows))
    reach = stats.norm.isf((1 - level) / 2) * deviation
    p_value = 2 * stats.norm.sf(abs(value - expected) / deviation)
    return Rate(value, expected, max(expected - reach, 0.0), min(expected + reach, 1.0), float(p_value))


def auc_deviation(auc: float, positives: int, negatives: int) -> float:
    """Standard deviation of an AUC from so many rows, whatever the scores (Hanley and McNeil 1982)."""
    won, lost = auc / (2 - auc), 2 * auc**2 / (1 + auc)  # that one positive beats two negatives, two positives one
    spread = (positives - 1) * (won - auc**2) + (negatives - 1) * (lost - auc**2)
    return float(np.sqrt((auc * (1 - auc) + spread) / (positives * negatives)))


def overdispersion(hits: NDArray[np.int64], rows: NDArray[np.int64]) -> float:
    """By how much more daily shares vary than by chance: Pearson's chi-squared over its degrees, at least 1."""
    kept = rows > 0
    if kept.sum() < 2:
        return 1.0
    share = (hits[kept].sum() + PRIOR) / (rows[kept].sum() + 2 * PRIOR)
    pearson = ((hits[kept] - rows[kept] * share) ** 2 / (rows[kept] * share * (1 - share))).sum()
    return float(max(pearson / (kept.sum() - 1), 1.0))


def adjusted(p_values: Floats) -> Floats:
    """p-values corrected for their number (Benjamini-Yekutieli: whatever the tests have to do with each other)."""
    return np.asarray(stats.false_discovery_control(p_values, method="by")) if len(p_values) else p_values
