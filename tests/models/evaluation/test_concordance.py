"""The concordance of labels and scores against loops over all pairs, and its error against repeated samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import kendalltau

from features.schema import Task, TaskKind
from models.evaluation.concordance import concordance
from models.evaluation.delong import estimate_cells
from models.evaluation.metrics import auc, auc_influence, mean_of_cells

pytestmark = pytest.mark.unit
WATCH = (Task(name="watch", kind=TaskKind.REGRESSION),)


@st.composite
def rows(draw):
    """Labels, scores and weights [N] with many ties."""
    count = draw(st.integers(1, 25))
    return tuple(draw(arrays.arrays(np.int64, count, elements=st.integers(0, most))) for most in (9, 5, 3))


def by_pairs(labels, scores, weight):
    """The weighted share of pairs in order, ties half; None without a pair of different labels."""
    pairs = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if labels[i] > labels[j]]
    mass = sum(weight[i] * weight[j] for i, j in pairs)
    won = sum(weight[i] * weight[j] * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2) for i, j in pairs)
    return won / mass if mass else None


@settings(deadline=None)
@given(rows())
def test_it_is_the_share_of_pairs_in_order(drawn):
    """By the definition, with and without weights; a row of weight 2 is two rows, and the unit does not matter."""
    labels, scores, weight = drawn
    for given_weight in (None, weight, weight * 0.3):
        expected = by_pairs(labels, scores, np.ones(len(labels)) if given_weight is None else weight)
        actual = concordance(labels, scores, given_weight)
        assert (actual is None) == (expected is None)
        if actual is not None:
            assert actual.value == pytest.approx(expected, abs=1e-12)
    repeated, actual = concordance(labels.repeat(weight), scores.repeat(weight)), concordance(labels, scores, weight)
    assert (repeated is None) == (actual is None)
    if repeated is not None and actual is not None:
        assert repeated.value == pytest.approx(actual.value, abs=1e-12)


def test_of_two_labels_it_is_the_auc_with_delongs_error():
    """The same number, and the same variance to 1 % with a thousand rows."""
    random = np.random.default_rng(0)
    labels = (random.random(1000) < 0.3).astype(float)
    scores = random.normal(size=1000) + labels
    pairs = concordance(labels, scores)
    assert pairs is not None
    assert pairs.value == pytest.approx(auc(labels, scores), abs=1e-12)
    assert (pairs.influence**2).sum() == pytest.approx((auc_influence(labels, scores) ** 2).sum(), rel=0.01)


def test_without_ties_it_follows_from_kendalls_tau():
    """Twice the share, less 1, is tau, by scipy."""
    random = np.random.default_rng(1)
    labels = random.lognormal(size=500)
    scores = labels + random.normal(size=500)
    assert concordance(labels, scores).value == pytest.approx((kendalltau(labels, scores).statistic + 1) / 2, abs=1e-12)


def test_its_error_is_that_of_repeated_samples():
    """The deviation over 200 samples of weighted rows is the estimated one, within a fifth."""
    random, values, errors = np.random.default_rng(2), [], []
    for _ in range(200):
        labels = random.lognormal(size=150)
        pairs = concordance(labels, labels + 2 * random.normal(size=150), random.exponential(size=150))
        values.append(pairs.value)
        errors.append(np.sqrt((pairs.influence**2).sum()))
    assert np.std(values) == pytest.approx(np.mean(errors), rel=0.2)


def test_it_is_the_metric_of_a_regression():
    """In the mean that chooses the epoch and in the estimates of the promotion policy; unobserved labels left out."""
    labels = np.array([[1.0], [2.0], [np.nan], [3.0], [5.0]])
    scores, scenario = np.array([[0.1], [0.3], [9.0], [0.2], [0.4]]), np.zeros(5, int)
    mean, _ = mean_of_cells(labels, scores, scenario, WATCH, scenarios=1)
    assert mean == pytest.approx(5 / 6)
    cells = estimate_cells(labels, scores, scenario, WATCH, scenarios=["home"], weight=np.ones(5))
    assert cells["home/watch"].value == pytest.approx(5 / 6)
    assert cells["home/watch"].rows.tolist() == [0, 1, 3, 4]
    assert estimate_cells(labels[:1], scores[:1], scenario[:1], WATCH, scenarios=["home"]) == {}
