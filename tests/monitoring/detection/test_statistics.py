"""Distances between two histograms: known values, limits, and the values that chance gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.detection import statistics

pytestmark = pytest.mark.unit

COUNTS = st.lists(st.integers(0, 10_000), min_size=6, max_size=6).filter(lambda counts: sum(counts) > 0)


def test_psi_of_a_known_pair() -> None:
    """Half and half against nine to one: 0.4 ln(0.9 / 0.5) + 0.4 ln(0.5 / 0.1), with many rows."""
    value = statistics.psi(np.array([900_000, 100_000]), np.array([500_000, 500_000]))
    assert value == pytest.approx(0.4 * np.log(0.9 / 0.5) + 0.4 * np.log(0.5 / 0.1), abs=1e-4)


@given(COUNTS, COUNTS)
def test_psi_is_finite_symmetric_and_zero_for_equal_shares(first: list[int], second: list[int]) -> None:
    """Also where bins are empty."""
    a, b = np.array(first), np.array(second)
    assert 0 <= statistics.psi(a, b) < 100
    assert statistics.psi(a, b) == pytest.approx(statistics.psi(b, a))
    assert statistics.psi(a, a) == 0


def test_psi_of_samples_of_one_distribution_is_the_expected_one() -> None:
    """The mean over 2,000 pairs of samples is (k - 1)(1/n + 1/m)."""
    random, shares = np.random.default_rng(1), np.array([0.4, 0.3, 0.2, 0.1])
    pairs = [(random.multinomial(2000, shares), random.multinomial(5000, shares)) for _ in range(2000)]
    mean = np.mean([statistics.psi(a, b) for a, b in pairs])
    assert mean == pytest.approx(statistics.expected_psi(*pairs[0]), rel=0.1)
    assert statistics.expected_psi(*pairs[0]) == pytest.approx(3 * (1 / 2000 + 1 / 5000))


def test_jensen_shannon_is_one_without_a_common_bin() -> None:
    """And zero where the shares are equal, for any number of rows."""
    assert statistics.js_distance(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1)
    assert statistics.js_distance(np.array([5, 5]), np.array([70, 70])) == pytest.approx(0)


def test_the_bin_that_moved_most_is_named_with_its_sign() -> None:
    """From 10 % to 40 %: +0.3, and the index of the bin."""
    moved, index = statistics.largest_move(np.array([30, 30, 40]), np.array([45, 45, 10]))
    assert (round(moved, 6), index) == (0.3, 2)


def test_wasserstein_is_the_shift_in_deviations() -> None:
    """All values one standard deviation higher: distance one; missing values (the first bin) do not count."""
    values = np.array([0.0, 2.0, 4.0, 6.0])
    counts, deviation = np.array([7, 10, 10, 10, 10]), values.std()
    sums = np.append(0, 10 * values)
    shifted = np.append(0, 10 * (values + deviation))
    assert statistics.wasserstein(counts, counts, shifted, sums) == pytest.approx(1)
    assert statistics.wasserstein(np.array([9, 0, 0]), np.array([1, 4, 4]), np.zeros(3), np.array([0, 1, 8])) is None


def test_the_p_value_of_a_rate_is_that_of_two_proportions() -> None:
    """It is 1 for equal rates and that of the chi-squared test for others; a spread of four doubles the band."""
    usual = statistics.compare_rates(100, 1000, 1000, 10_000)
    fallen = statistics.compare_rates(50, 1000, 1000, 10_000)
    assert usual is not None
    assert fallen is not None
    assert usual.p_value == pytest.approx(1)
    assert usual.low < 0.1 < usual.high
    table = stats.chi2_contingency([[50, 950], [1000, 9000]], correction=False)
    assert fallen.p_value == pytest.approx(table.pvalue, rel=0.05)
    wide = statistics.compare_rates(50, 1000, 1000, 10_000, spread=4)
    assert wide is not None
    assert wide.expected - wide.low == pytest.approx(2 * (fallen.expected - fallen.low))
    assert statistics.compare_rates(0, 0, 1, 10) is None


@pytest.mark.parametrize("positives", [20, 500])
def test_the_deviation_of_an_auc_is_that_of_many_samples(positives: int) -> None:
    """Within a fifth, for normal scores (the formula supposes exponential ones); a perfect ranking does not vary."""
    random, negatives = np.random.default_rng(3), 2000
    usual = stats.norm.cdf(1 / np.sqrt(2))
    sampled = [
        stats.mannwhitneyu(random.normal(1, 1, positives), random.normal(0, 1, negatives)).statistic
        / (positives * negatives)
        for _ in range(400)
    ]
    assert statistics.auc_deviation(usual, positives, negatives) == pytest.approx(np.std(sampled), rel=0.2)
    assert statistics.auc_deviation(1.0, positives, negatives) == 0


def test_overdispersion_is_one_for_chance_and_more_for_rhythm() -> None:
    """Binomial days give about one, never less; days that alternate give far more."""
    random = np.random.default_rng(2)
    rows = np.full(200, 5000)
    assert statistics.overdispersion(random.binomial(rows, 0.1), rows) == pytest.approx(1, abs=0.3)
    assert statistics.overdispersion(np.tile([400, 600], 100), rows) > 10
    assert statistics.overdispersion(np.array([1]), np.array([10])) == 1
