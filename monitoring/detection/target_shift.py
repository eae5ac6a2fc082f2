"""The labels of a regression task in the current window against those of the reference: mean and distribution."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoding.target_counts import MILLION, TargetCounts
from monitoring.detection import noise_band, statistics
from monitoring.detection.statistics import Floats, Rate, compare_means, overdispersion_of_means, shares

Entry = dict[str, Any]


def compare_targets(
    reference: TargetCounts,
    current: TargetCounts,
    scenario: int,
    *,
    days: NDArray[np.bool_],
    length: int,
    gap: int,
    period_days: int,
) -> Entry:
    """The labels of one scenario: the mean as the rate of a binary task has it, and PSI on the bins of training.

    `scale` is what a change of the mean is relative to: the mean itself, or the standard deviation where labels may be
    negative.

    Args:
        reference: the labels of the training rows.
        current: the labels of the window, on the same bins.
        scenario: the number of the scenario.
        days: the days of the reference [D] whose mean is the expected one.
        length: days of the window.
        gap: days before it.
        period_days: days of a period of the counts.
    """
    then, now = (_raw(counts)[:, scenario] for counts in (reference, current))
    mean = compare_means(now.sum(axis=0), then[days].sum(axis=0), spread=overdispersion_of_means(then))
    mean = mean or Rate(*[np.nan] * 5)
    scale = mean.expected if reference.bins.edges[0] >= 0 else np.sqrt(statistics.variance(then.sum(axis=0)))
    entry: Entry = {
        "is_number": True,
        "rows": int(now[:, 0].sum()),
        "positives": None,
        "rate": mean.value,
        "reference_rate": mean.expected,
        "low": mean.low,
        "high": mean.high,
        "p_value": mean.p_value,
        "scale": scale,
    }
    plain = {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in entry.items()}
    changes = _changes(reference, scenario, scale, length, gap)
    return {
        **plain,
        **_distribution(reference, current, scenario, max(round(length / period_days), 1), gap // period_days),
        "histories": {"label_rate": changes},
    }


def _raw(counts: TargetCounts) -> Floats:
    """The daily rows, sums and sums of squares in the unit of the label [D, S, 3]."""
    unit = counts.bins.unit
    raw: Floats = counts.daily * np.array([1, unit / MILLION, unit**2 / MILLION])
    return raw


def _changes(reference: TargetCounts, scenario: int, scale: float, length: int, gap: int) -> list[float]:
    """Changes of the mean inside the reference, relative to the scale."""
    pairs = noise_band.reference_pairs(reference.daily[:, scenario], length=length, gap=gap)
    moves = [now[1] / now[0] - before[1] / before[0] for now, before in pairs if now[0] and before[0]]
    factor = reference.bins.unit / MILLION
    return [round(float(abs(move) * factor / scale), 6) for move in moves] if scale > 0 else []


def _distribution(reference: TargetCounts, current: TargetCounts, scenario: int, length: int, gap: int) -> Entry:
    periods, now = reference.counts[:, scenario], current.counts[:, scenario].sum(axis=0)
    then = periods.sum(axis=0)
    noise = noise_band.measure_noise(periods, length=length, gap=gap)
    value = statistics.psi(now, then)
    moved, moved_bin = statistics.largest_move(now, then)
    return {
        "psi": value,
        "noise": noise_band.band(noise, now, then),
        "psi_p_value": noise_band.p_value(value, noise, now, then),
        "linf": moved,
        "linf_bin": reference.bins.labels[moved_bin],
        "bins": reference.bins.labels,
        "reference": shares(then).tolist(),
        "current": shares(now).tolist(),
    }
