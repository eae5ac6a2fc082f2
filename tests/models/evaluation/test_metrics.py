"""The metrics against their definitions in plain loops, and against properties that always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import roc_auc_score

from models.evaluation import metrics

pytestmark = pytest.mark.unit
EXACT = {"rtol": 0, "atol": 1e-12}


@st.composite
def rows(draw, *, least=0):
    """Labels [N], scores [N] with many ties, and group [N]."""
    count = draw(st.integers(least, 40))
    labels = draw(arrays.arrays(np.float32, count, elements=st.sampled_from([0.0, 1.0])))
    scores = draw(arrays.arrays(np.float32, count, elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0])))
    return labels, scores, draw(arrays.arrays(np.int64, count, elements=st.integers(-2, 5)))


def both(labels):
    """Whether both classes are there."""
    return 0 < labels.sum() < len(labels)


def clicks(random, count, slope=1.0):
    """Labels drawn from their probabilities, and these."""
    p = 1 / (1 + np.exp(-slope * random.normal(size=count) + 1))
    return (random.random(count) < p).astype(np.float32), p


def auc_by_pairs(labels, scores):
    """The share of (positive, negative) pairs in which the positive is higher, ties half; None with one class."""
    pairs = [(p > n) + (p == n) / 2 for p in scores[labels == 1] for n in scores[labels == 0]]
    return np.mean(pairs) if pairs else None


@given(rows())
def test_auc_is_the_share_of_pairs_that_the_positive_wins(drawn):
    """By the definition, to twelve digits; ties count half; one class gives None."""
    labels, scores, _ = drawn
    expected, area = auc_by_pairs(labels, scores), metrics.auc(labels, scores)
    if expected is None:
        assert area is None
    else:
        np.testing.assert_allclose(area, expected, **EXACT)


@given(rows(least=1), st.data())
def test_a_row_of_weight_2_is_two_rows(drawn, data):
    """The weighted AUC is that of the repeated rows, whatever the unit of the weights; weights of 1 change no bit."""
    labels, scores, _ = drawn
    weight = data.draw(arrays.arrays(np.int64, len(labels), elements=st.integers(0, 3)))
    repeated, area = metrics.auc(labels.repeat(weight), scores.repeat(weight)), metrics.auc(labels, scores, weight / 7)
    assert (area is None) == (repeated is None)
    if area is not None:
        np.testing.assert_allclose(area, repeated, **EXACT)
    assert metrics.auc(labels, scores, np.ones(len(labels))) == metrics.auc(labels, scores)


@given(rows())
def test_auc_depends_on_the_order_of_scores_only(drawn):
    """A strictly increasing map changes nothing; negated scores or swapped labels give 1 - AUC."""
    labels, scores, _ = drawn
    area = metrics.auc(labels, scores)
    assert metrics.auc(labels, np.exp(scores)) == area
    if area is not None:
        np.testing.assert_allclose([metrics.auc(labels, -scores), metrics.auc(1 - labels, scores)], 1 - area, **EXACT)


@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(drawn, random):
    """Every metric is the same for the same rows in another order, also where predictions are equal."""
    labels, scores, group = drawn
    order = np.array(random.sample(range(len(labels)), len(labels)), dtype=np.int64)
    expected = pytest.approx(every_metric(labels, scores, group), nan_ok=True)
    assert every_metric(labels[order], scores[order], group[order]) == expected


def every_metric(labels, scores, group):
    """All metrics of the module as one list, NaN for None."""
    p = 1 / (1 + np.exp(-scores.astype(np.float64)))
    area = metrics.auc_interval(labels, scores, confidence=0.9)
    values = [
        metrics.auc(labels, scores),
        metrics.log_loss(labels, p),
        metrics.normalised_entropy(labels, p),
        metrics.calibration(labels, p),
        metrics.grouped_auc(labels, scores, group),
        metrics.calibration_error(metrics.reliability(labels, p, bins=4)),
        *((area.value, area.low, area.high) if area else (None,) * 3),
    ]
    return [np.nan if value is None else value for value in values]


def test_the_interval_is_delongs():
    """Its variance is that of the placements of every row among the other class, by the slow definition."""
    labels, p = clicks(np.random.default_rng(3), 300)
    scores = np.round(p, 1)  # with ties
    wins = np.array([[(a > b) + (a == b) / 2 for b in scores[labels == 0]] for a in scores[labels == 1]])
    variance = wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / wins.shape[1]
    interval = metrics.auc_interval(labels, scores, confidence=0.95)
    assert interval.value == pytest.approx(wins.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.959964 * variance**0.5, rel=1e-6)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Over 400 small samples, 95 % intervals hold the AUC of a large sample 92 to 98 times of 100."""
    random = np.random.default_rng(1)
    truth = metrics.auc(*clicks(random, 400_000))
    intervals = [metrics.auc_interval(*clicks(random, 250), confidence=0.95) for _ in range(400)]
    assert 0.92 < np.mean([interval.low <= truth <= interval.high for interval in intervals]) < 0.98


@pytest.mark.parametrize("labels", [[], [1], [0, 0, 0], [1, 0, 0]])
def test_no_interval_from_one_row_of_a_class(labels):
    """A spread needs two rows of each class."""
    assert metrics.auc_interval(np.array(labels), np.arange(len(labels)), confidence=0.95) is None


@given(rows())
def test_grouped_auc_is_the_loop_over_groups(drawn):
    """The mean over groups with both classes, weighted by the group's rows."""
    labels, scores, group = drawn
    inside = [group == g for g in np.unique(group)]
    kept = [(auc_by_pairs(labels[i], scores[i]), i.sum()) for i in inside if both(labels[i])]
    expected = sum(area * rows for area, rows in kept) / max(1, sum(rows for _, rows in kept))
    assert metrics.grouped_auc(labels, scores, group) == (pytest.approx(expected) if kept else None)


def test_mean_auc_is_the_mean_over_the_cells():
    """Unobserved labels are left out, a cell with one class is NaN and does not count."""
    random = np.random.default_rng(5)
    scenario, scores = random.integers(0, 3, 500), random.random((500, 2))
    labels = random.integers(0, 2, (500, 2)).astype(np.float64)
    labels[random.random((500, 2)) < 0.3] = np.nan
    labels[scenario == 2, 1] = 1
    mean, table = metrics.mean_auc(labels, scores, scenario, 4)
    for row, task in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]:
        kept = (scenario == row) & ~np.isnan(labels[:, task])
        assert table[row, task] == pytest.approx(roc_auc_score(labels[kept, task], scores[kept, task]))
    assert np.isnan(table[2, 1])
    assert np.isnan(table[3]).all()
    assert mean == pytest.approx(np.nanmean(table))


def test_mean_auc_without_any_cell_is_nan():
    """No rows: no warning, no zero."""
    mean, table = metrics.mean_auc(np.empty((0, 2)), np.empty((0, 2)), np.empty(0, int), 3)
    assert np.isnan(mean)
    assert table.shape == (3, 2)


@given(rows(least=1))
def test_log_loss_is_the_mean_of_the_logarithms(drawn):
    """In nats, also where a probability is exactly 0 or 1; without rows there is none."""
    labels, scores, _ = drawn
    p = np.clip(scores.astype(np.float64), 0, 1)
    own = np.where(labels == 1, p, 1 - p)  # the probability of the label
    expected = -np.log(np.maximum(own, np.finfo(np.float64).eps)).mean()
    np.testing.assert_allclose(metrics.log_loss(labels, p), expected, rtol=1e-9, atol=1e-12)
    assert metrics.log_loss(labels[:0], p[:0]) is None


def test_normalised_entropy_of_the_base_rate_is_one():
    """Always to predict the base rate gives 1, better predictions less than 1; with one class it is None."""
    labels, p = clicks(np.random.default_rng(2), 5000)
    assert metrics.normalised_entropy(labels, np.full(len(labels), labels.mean())) == pytest.approx(1)
    assert metrics.normalised_entropy(labels, p) < 1
    assert metrics.normalised_entropy(np.ones(3), np.full(3, 0.5)) is None
    assert metrics.normalised_entropy(np.ones(0), np.ones(0)) is None


def test_calibration_is_predicted_over_observed():
    """Twice the observed rate is 2; without a positive it is None."""
    assert metrics.calibration(np.array([1, 0, 0, 0]), np.full(4, 0.5)) == 2
    assert metrics.calibration(np.zeros(4), np.full(4, 0.5)) is None


def test_bins_have_equal_mass():
    """Distinct predictions: every bin has its share of the rows, in order, and holds the means of a slow loop."""
    labels, p = clicks(np.random.default_rng(4), 1003)
    diagram = metrics.reliability(labels, p, bins=10)
    assert set(diagram.rows) <= {100, 101}
    assert diagram.rows.sum() == 1003
    for part, predicted, observed in zip(
        np.split(np.argsort(p), np.cumsum(diagram.rows)[:-1]), diagram.predicted, diagram.observed, strict=True
    ):
        assert (predicted, observed) == pytest.approx((p[part].mean(), labels[part].mean()))


def test_equal_predictions_share_a_bin():
    """The base rate for every row is one bin, and perfectly calibrated."""
    diagram = metrics.reliability(np.array([0, 1, 0, 1]), np.full(4, 0.5), bins=10)
    assert diagram.rows.tolist() == [4]
    assert metrics.calibration_error(diagram) == 0


def test_calibration_error_by_hand():
    """Two bins of two rows: |0.2 - 0.5| and |0.8 - 0.5|, each half the rows."""
    diagram = metrics.reliability(np.array([0, 1, 0, 1]), np.array([0.1, 0.3, 0.7, 0.9]), bins=2)
    assert metrics.calibration_error(diagram) == pytest.approx(0.3)
    assert metrics.calibration_error(metrics.reliability(np.ones(0), np.ones(0), bins=2)) is None
