"""Noise bands: what the reference does by itself is no drift, and what it never did is."""

import numpy as np
import pytest

from monitoring.detection.noise_band import NONE, band, noise_of, p_value, pairs
from monitoring.detection.statistics import psi

SHARES = np.array([0.4, 0.3, 0.2, 0.1])


def sampled(seed: int, periods: int, rows: int, shares: np.ndarray = SHARES) -> np.ndarray:
    """Counts of so many days of one distribution [P, bins]."""
    return np.random.default_rng(seed).multinomial(rows, shares, size=periods)


def test_the_same_question_is_put_to_the_reference() -> None:
    """Ten days, a window of two that begins two after: the past of a window ends two days before it."""
    days = np.eye(10, dtype=np.int64)
    asked = [(now.nonzero()[0].tolist(), before.nonzero()[0].tolist()) for now, before in pairs(days, length=2, gap=2)]
    assert asked == [([6, 7], [0, 1, 2, 3]), ([7, 8], [0, 1, 2, 3, 4]), ([8, 9], [0, 1, 2, 3, 4, 5])]


def test_a_short_reference_says_what_it_can() -> None:
    """Four days cannot be asked about a week that begins a week later: single days are, without a gap."""
    assert len(pairs(sampled(1, 4, 100), length=7, gap=7)) == 3


def test_no_change_stays_inside_the_band_and_a_change_does_not() -> None:
    """Of 300 windows of the same distribution hardly one is outside; a move of ten points always is."""
    outside = 0
    for seed in range(300):
        days = sampled(seed, 14, 2000)
        reference, now = days[:12].sum(axis=0), days[12:].sum(axis=0)
        outside += psi(now, reference) > band(noise_of(days[:12], length=2, gap=0), now, reference)
        moved = sampled(seed, 1, 4000, SHARES + np.array([0.1, -0.05, 0, -0.05]))[0]
        assert psi(moved, reference) > band(noise_of(days[:12], length=2, gap=0), moved, reference)
    assert outside <= 2


def test_p_values_of_no_change_are_even() -> None:
    """Between 0 and 1 in equal parts: about a tenth below 0.1, and as many below 0.5 as above."""
    values = []
    for seed in range(1000):
        days = sampled(seed, 14, 2000)
        reference, now = days[:12].sum(axis=0), days[12:].sum(axis=0)
        values.append(p_value(psi(now, reference), NONE, now, reference))
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.03)
    assert np.mean(np.array(values) < 0.5) == pytest.approx(0.5, abs=0.05)


def test_a_calendar_column_is_never_drift() -> None:
    """A column that names the day of the week is another one every day; its distance is its usual one."""
    weekdays = 3000 * np.eye(7, dtype=np.int64)[np.arange(21) % 7]
    reference, now = weekdays[:17].sum(axis=0), weekdays[19:].sum(axis=0)
    noise = noise_of(weekdays[:17], length=2, gap=2)
    assert psi(now, reference) > 1
    assert psi(now, reference) < band(noise, now, reference)
    assert p_value(psi(now, reference), noise, now, reference) > 0.05


def test_a_counter_that_grows_by_itself_is_not_drift() -> None:
    """Its distance from its past is what it was for every day before."""
    edges = np.linspace(0, 5, 9)
    days = [np.random.default_rng(day).normal(np.log(day + 1), 0.5, 3000) for day in range(21)]
    counts = np.stack([np.histogram(np.clip(day, 0, 5), edges)[0] for day in days])
    reference, now = counts[:17].sum(axis=0), counts[19:].sum(axis=0)
    noise = noise_of(counts[:17], length=2, gap=2)
    assert psi(now, reference) > 0.25
    assert psi(now, reference) < band(noise, now, reference)


def test_an_empty_window_is_no_evidence() -> None:
    """Nothing is concluded from no rows."""
    assert p_value(0.0, NONE, np.zeros(3, int), np.array([1, 2, 3])) == 1
