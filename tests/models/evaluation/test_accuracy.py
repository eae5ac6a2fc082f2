"""Accuracy and hit rate against plain loops; a tie counts as wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from features.schema import Task, TaskKind
from models.evaluation import accuracy
from models.evaluation.metrics import class_log_loss, mean_of_cells

pytestmark = pytest.mark.unit
small = st.integers(0, 3)


@given(st.lists(st.tuples(small, st.tuples(small, small, small, small)), min_size=1, max_size=30))
def test_a_class_is_correct_when_no_other_is_as_high(rows: list) -> None:
    """Row by row; where no score occurs twice that is scikit-learn's accuracy of the highest."""
    labels, scores = np.array([label for label, _ in rows], np.float32), np.array([s for _, s in rows], float)
    expected = [all(s < of_row[label] for index, s in enumerate(of_row) if index != label) for label, of_row in rows]
    assert accuracy.correct_classes(labels, scores).tolist() == expected
    distinct = scores + np.arange(4) / 10
    assert accuracy.mean_correct(accuracy.correct_classes(labels, distinct)) == accuracy_score(
        labels, distinct.argmax(axis=1)
    )


@given(st.lists(st.tuples(st.integers(-1, 4), st.booleans(), small), min_size=1, max_size=40), st.integers(1, 3))
def test_a_choice_is_correct_when_fewer_than_k_are_as_good(rows: list, k: int) -> None:
    """Set by set, with a loop: the others that score as high as the best chosen one are fewer than `k`."""
    expected = []
    for name in sorted({name for name, _, _ in rows}):
        chosen = [score for own, label, score in rows if own == name and label]
        others = [score for own, label, score in rows if own == name and not label]
        if chosen and others:
            expected.append(sum(score >= max(chosen) for score in others) < k)
    sets, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    correct = accuracy.correct_choices(labels.astype(np.float32), scores.astype(float), sets, k=k)
    assert correct.tolist() == expected


def test_equal_scores_are_never_correct() -> None:
    """Neither a class nor a candidate is ahead; the chosen one of five equal candidates counts as the last."""
    labels = np.array([1, 0, 0, 0, 0])
    assert accuracy.mean_correct(accuracy.correct_classes(labels, np.zeros((5, 3)))) == 0
    assert accuracy.mean_correct(accuracy.correct_choices(labels, np.zeros(5), np.zeros(5, int), k=4)) == 0
    assert accuracy.mean_correct(accuracy.correct_choices(labels, np.zeros(5), np.zeros(5, int), k=5)) == 1


def test_no_rows_have_no_metric() -> None:
    """Neither an accuracy nor an interval nor a loss."""
    nothing = accuracy.correct_choices(np.zeros(0), np.zeros(0), np.zeros(0, int), k=1)
    assert accuracy.mean_correct(nothing) is None
    assert accuracy.wilson_interval(nothing, confidence=0.95) is None
    assert class_log_loss(np.zeros(0), np.zeros((0, 3))) is None


def test_the_interval_is_wilsons() -> None:
    """The published example of 0.95 for 8 of 10, and never outside 0 and 1."""
    interval = accuracy.wilson_interval(np.arange(10) < 8, confidence=0.95)
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    all_correct = accuracy.wilson_interval(np.ones(5, bool), confidence=0.95)
    assert all_correct is not None
    assert (all_correct.value, all_correct.high) == (1, 1)


def test_probabilities_by_kind() -> None:
    """A sigmoid for one logit, a softmax for the classes; the loss is the mean of -log(probability of the class)."""
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 4)).astype(np.float32), random.integers(0, 3, 50)
    tasks = (Task(name="click"), Task(name="when", kind=TaskKind.MULTI_CLASS, classes=(1, 2, 3)))
    probabilities = accuracy.probabilities_of(logits, tasks)
    np.testing.assert_allclose(probabilities[:, 0], 1 / (1 + np.exp(-logits[:, 0].astype(float))))
    np.testing.assert_allclose(probabilities[:, 1:].sum(axis=1), 1)
    own = [row[label] for row, label in zip(probabilities[:, 1:], labels, strict=True)]
    assert class_log_loss(labels, probabilities[:, 1:]) == pytest.approx(-np.log(own).mean())


def test_every_cell_has_the_metric_of_its_kind() -> None:
    """AUC, accuracy and hit rate by hand; unobserved labels do not count; the mean is of all cells."""
    tasks = (
        Task(name="click"),
        Task(name="when", kind=TaskKind.MULTI_CLASS, classes=(1, 2)),
        Task(name="where", kind=TaskKind.CHOICE),
    )
    nan = np.nan
    labels = np.array([[1, 0, 1], [0, 1, 0], [1, nan, 0], [nan, 1, 1], [0, nan, 0], [0, 0, nan]])
    scores = np.array([[2, 1, 0, 3], [1, 0, 1, 2], [3, 0, 0, 1], [0, 1, 0, 0], [2, 0, 0, 1], [1, 1, 0, 9.0]])
    scenario, sets = np.array([0, 0, 0, 0, 0, 1]), np.array([7, 7, 7, 8, 8, 8])
    mean, table = mean_of_cells(labels, scores, scenario, tasks, scenarios=2, choice_set=sets)
    np.testing.assert_allclose(table, [[3.5 / 4, 2 / 3, 1 / 2], [nan, 1, nan]])
    assert mean == pytest.approx((3.5 / 4 + 2 / 3 + 1 / 2 + 1) / 4)
    weight = np.array([1, 0, 4, 1, 1, 1])
    _, weighted = mean_of_cells(labels, scores, scenario, tasks, scenarios=2, choice_set=sets, weight=weight)
    first = (1 + 0 + 4) / 3  # the mean weight of the candidates of the first choice; that of the second is 1
    np.testing.assert_allclose(weighted, [[4.5 / 5, 1 / 2, first / (first + 1)], [nan, 1, nan]])
    with pytest.raises(ValueError, match="task where is a choice, but its rows have no choice_set"):
        mean_of_cells(labels, scores, scenario, tasks, scenarios=2)
