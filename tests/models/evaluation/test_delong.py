"""The difference of two models on the same rows: its interval against slow definitions, a bootstrap and the truth."""

import numpy as np
import pytest

from features.schema import Task, TaskKind
from models.evaluation import metrics
from models.evaluation.delong import Estimate, estimate_cells, mean_estimate

pytestmark = pytest.mark.unit
CLICK = (Task(name="click"),)


def rows(random, count, *, noise=(0.5, 1.0)):
    """Labels [N] that follow a hidden score, and two noisy measurements of it, rounded to have ties [N, 2]."""
    hidden = random.normal(size=count)
    labels = (random.random(count) < 1 / (1 + np.exp(1 - hidden))).astype(np.float32)
    return labels, np.stack([np.round(hidden + s * random.normal(size=count), 1) for s in noise], axis=1)


def difference(labels, scores) -> Estimate:
    """The AUC of the first scores less that of the second, in one cell."""
    one, other = (single_estimate(labels[:, None], s[:, None], CLICK) for s in scores.T)
    return one - other


def single_estimate(labels, scores, tasks, **more) -> Estimate:
    """The estimate of the only cell."""
    (estimate,) = estimate_cells(labels, scores, np.zeros(len(labels), int), tasks, scenarios=["s"], **more).values()
    return estimate


def delong(labels, scores) -> float:
    """Variance of the difference by the definition: covariances of the placements of every pair, in loops."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = np.array([[(p > n) + (p == n) / 2 for n in negative] for p in positive])  # [P, N, 2]
    s10, s01 = np.cov(wins.mean(1).T), np.cov(wins.mean(0).T)
    covariance = s10 / len(positive) + s01 / len(negative)
    return covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]


def test_the_variance_of_the_difference_is_delongs() -> None:
    """By the slow definition, with ties; the value is the difference of the AUCs."""
    labels, scores = rows(np.random.default_rng(1), 250)
    estimate = difference(labels, scores)
    assert estimate.value == pytest.approx(metrics.auc(labels, scores[:, 0]) - metrics.auc(labels, scores[:, 1]))
    assert (estimate.influence**2).sum() == pytest.approx(delong(labels, scores))


def test_the_interval_of_one_model_is_that_of_the_metrics() -> None:
    """The same figures as `auc_interval` where that is not cut."""
    labels, scores = rows(np.random.default_rng(2), 300)
    estimate = single_estimate(labels[:, None], scores[:, :1], CLICK).interval(0.9)
    expected = metrics.auc_interval(labels, scores[:, 0], confidence=0.9)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((expected.value, expected.low, expected.high))


@pytest.mark.slow
def test_the_variance_is_that_of_a_bootstrap() -> None:
    """Drawing the rows again 400 times gives the same spread, within a fifth; unpaired it is far wider."""
    random = np.random.default_rng(3)
    labels, scores = rows(random, 400)
    draws = [difference(labels[d], scores[d]).value for d in random.integers(0, 400, (400, 400))]
    estimate = difference(labels, scores)
    assert np.std(draws) == pytest.approx((estimate.influence**2).sum() ** 0.5, rel=0.2)
    apart = sum((single_estimate(labels[:, None], s[:, None], CLICK).influence ** 2).sum() for s in scores.T)
    assert (estimate.influence**2).sum() < 0.7 * apart


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 300 small samples, 90 % intervals hold the difference of a large sample 86 to 94 times of 100."""
    random = np.random.default_rng(4)
    truth = difference(*rows(random, 200_000)).value
    estimate = [difference(*rows(random, 300)).interval(0.9) for _ in range(300)]
    assert 0.86 < np.mean([interval.low <= truth <= interval.high for interval in estimate]) < 0.94


def test_equal_models_differ_by_nothing() -> None:
    """The interval of the same scores is a point at zero, and so is that of scores in the same order."""
    labels, scores = rows(np.random.default_rng(5), 100)
    estimate = difference(labels, np.stack([scores[:, 0], np.exp(scores[:, 0])], axis=1)).interval(0.95)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0, 0, 0))


def test_tasks_of_the_same_rows_count_together_in_the_mean() -> None:
    """Twice the same task has the interval of one, not that of two independent ones; two scenarios are independent."""
    labels, scores = rows(np.random.default_rng(6), 400)
    tasks, twice = (Task(name="a"), Task(name="b")), np.stack([labels, labels], axis=1)
    once = single_estimate(labels[:, None], scores[:, :1], CLICK).interval(0.95)
    same = estimate_cells(twice, scores[:, [0, 0]], np.zeros(400, int), tasks, scenarios=["s"])
    assert mean_estimate(list(same.values())).interval(0.95).low == pytest.approx(once.low)
    halves = estimate_cells(labels[:, None], scores[:, :1], np.arange(400) % 2, CLICK, scenarios=["s", "t"])
    variance = sum((cell.influence**2).sum() for cell in halves.values()) / 4
    assert (mean_estimate(list(halves.values())).influence ** 2).sum() == pytest.approx(variance)


def test_the_mean_is_the_metric_that_chooses_the_epoch() -> None:
    """Unobserved labels are left out, a cell without an estimate is left out; the rest as in `mean_auc`."""
    random = np.random.default_rng(7)
    scenario, scores = random.integers(0, 3, 500), random.random((500, 2))
    labels = random.integers(0, 2, (500, 2)).astype(np.float64)
    labels[random.random((500, 2)) < 0.3] = np.nan
    labels[scenario == 2, 1] = 1
    tasks = (Task(name="a"), Task(name="b"))
    estimate = estimate_cells(labels, scores, scenario, tasks, scenarios=["x", "y", "z"])
    assert list(estimate) == ["x/a", "x/b", "y/a", "y/b", "z/a"]
    assert mean_estimate(list(estimate.values())).value == pytest.approx(
        metrics.mean_auc(labels, scores, scenario, 3)[0]
    )


def test_classes_are_estimated_by_their_accuracy() -> None:
    """The difference of two accuracies is paired: its variance is that of the mean of the differences."""
    random = np.random.default_rng(8)
    classes = Task(name="mode", kind=TaskKind.MULTI_CLASS, classes=("bus", "car", "foot"))
    labels = random.integers(0, 3, (200, 1)).astype(float)
    scores = [np.eye(3)[labels[:, 0].astype(int)] + s * random.normal(size=(200, 3)) for s in (0.5, 1)]
    correct = [(s.argmax(1) == labels[:, 0]).astype(float) for s in scores]
    estimate = single_estimate(labels, scores[0], (classes,)) - single_estimate(labels, scores[1], (classes,))
    assert estimate.value == pytest.approx((correct[0] - correct[1]).mean())
    assert (estimate.influence**2).sum() == pytest.approx((correct[0] - correct[1]).var(ddof=1) / 200)


def test_a_choice_counts_once_whatever_its_candidates() -> None:
    """Sets in any order of rows: the value is the hit rate, and a set without a chosen candidate is left out."""
    random = np.random.default_rng(9)
    sets = random.permutation(np.repeat(np.arange(40), 4))
    chosen = np.zeros(160)
    for number in range(38):  # two sets without a chosen candidate
        chosen[random.choice(np.flatnonzero(sets == number))] = 1
    scores = chosen + random.normal(size=160)
    task = (Task(name="book", kind=TaskKind.CHOICE),)
    estimate = single_estimate(chosen[:, None], scores[:, None], task, choice_set=sets)
    correct = [chosen[sets == n][scores[sets == n].argmax()] for n in range(38)]
    assert estimate.value == pytest.approx(np.mean(correct))
    assert (estimate.influence**2).sum() == pytest.approx(np.var(correct, ddof=1) / 38)
    assert len(np.unique(estimate.rows)) == 38


def test_other_rows_are_refused() -> None:
    """A difference of estimates on other rows is not paired."""
    labels, scores = rows(np.random.default_rng(10), 60)
    one = single_estimate(labels[:, None], scores[:, :1], CLICK)
    with pytest.raises(ValueError, match="same rows"):
        one - single_estimate(labels[:50, None], scores[:50, :1], CLICK)
