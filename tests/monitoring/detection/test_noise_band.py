"""Noise bands: the usual variation within the reference is no drift, a larger change is."""

import numpy as np
import pytest

from monitoring.detection.noise_band import NO_NOISE, band, measure_noise, p_value, reference_pairs
from monitoring.detection.statistics import psi

pytestmark = pytest.mark.unit

SHARES = np.array([0.4, 0.3, 0.2, 0.1])


def sampled(seed: int, periods: int, rows: int, shares: np.ndarray = SHARES) -> np.ndarray:
    """Counts of so many days of one distribution [P, bins]."""
    return np.random.default_rng(seed).multinomial(rows, shares, size=periods)


def test_the_same_comparison_is_made_inside_the_reference() -> None:
    """Ten days, a window of two that begins two after: the past of a window ends two days before it."""
    days = np.eye(10, dtype=np.int64)
    pairs = reference_pairs(days, length=2, gap=2)
    indices = [(now.nonzero()[0].tolist(), before.nonzero()[0].tolist()) for now, before in pairs]
    assert indices == [([6, 7], [0, 1, 2, 3]), ([7, 8], [0, 1, 2, 3, 4]), ([8, 9], [0, 1, 2, 3, 4, 5])]


def test_a_short_reference_has_a_history() -> None:
    """Four days have no week that begins a week later: single days are compared, without a gap."""
    assert len(reference_pairs(sampled(1, 4, 100), length=7, gap=7)) == 3


def test_no_change_stays_inside_the_band_and_a_change_does_not() -> None:
    """Of 300 windows of the same distribution at most two are outside; with a move of ten points all are."""
    outside = 0
    for seed in range(300):
        days = sampled(seed, 14, 2000)
        reference, now = days[:12].sum(axis=0), days[12:].sum(axis=0)
        outside += psi(now, reference) > band(measure_noise(days[:12], length=2, gap=0), now, reference)
        moved = sampled(seed, 1, 4000, SHARES + np.array([0.1, -0.05, 0, -0.05]))[0]
        assert psi(moved, reference) > band(measure_noise(days[:12], length=2, gap=0), moved, reference)
    assert outside <= 2


def test_p_values_without_a_change_are_uniform() -> None:
    """About a tenth is below 0.1, and half below 0.5."""
    values = []
    for seed in range(1000):
        days = sampled(seed, 14, 2000)
        reference, now = days[:12].sum(axis=0), days[12:].sum(axis=0)
        values.append(p_value(psi(now, reference), NO_NOISE, now, reference))
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.03)
    assert np.mean(np.array(values) < 0.5) == pytest.approx(0.5, abs=0.05)


def test_a_calendar_column_is_never_drift() -> None:
    """A column that names the weekday differs every day; its distance is the usual one."""
    weekdays = 3000 * np.eye(7, dtype=np.int64)[np.arange(21) % 7]
    reference, now = weekdays[:17].sum(axis=0), weekdays[19:].sum(axis=0)
    noise = measure_noise(weekdays[:17], length=2, gap=2)
    assert psi(now, reference) > 1
    assert psi(now, reference) < band(noise, now, reference)
    assert p_value(psi(now, reference), noise, now, reference) > 0.05


def test_a_growing_counter_is_not_drift() -> None:
    """Its distance from its past is that of every day before."""
    edges = np.linspace(0, 5, 9)
    days = [np.random.default_rng(day).normal(np.log(day + 1), 0.5, 3000) for day in range(21)]
    counts = np.stack([np.histogram(np.clip(day, 0, 5), edges)[0] for day in days])
    reference, now = counts[:17].sum(axis=0), counts[19:].sum(axis=0)
    noise = measure_noise(counts[:17], length=2, gap=2)
    assert psi(now, reference) > 0.25
    assert psi(now, reference) < band(noise, now, reference)


def test_an_empty_window_is_no_evidence() -> None:
    """Without rows the p-value is 1."""
    assert p_value(0.0, NO_NOISE, np.zeros(3, int), np.array([1, 2, 3])) == 1
