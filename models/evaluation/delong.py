"""Metrics with their DeLong influence, so that two models on the same rows can be compared with a paired interval.

The scores of two models of the same rows are correlated: the difference of two metrics has a smaller variance than
either of them. An estimate holds the contribution of each row to its error. So the interval of a difference, or of a
mean over tasks that share rows, follows from the estimates alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from features.schema import Task, TaskKind, output_slices
from models.evaluation.accuracy import Interval, choice_weights, correct_choices, correct_classes
from models.evaluation.concordance import concordance
from models.evaluation.metrics import auc, auc_influence

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric on the rows with the indices `rows` [K] (ascending), and each row's contribution to its error.

    The variance of the metric is the sum of the squares of `influence` [K].
    """

    value: float
    rows: NDArray[np.int64]
    influence: NDArray[np.float64]

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two metrics on the same rows; raises ValueError where the rows differ."""
        if not np.array_equal(self.rows, other.rows):
            raise ValueError("a paired difference needs two estimates on the same rows")
        return Estimate(value=self.value - other.value, rows=self.rows, influence=self.influence - other.influence)

    def interval(self, confidence: float) -> Interval:
        """The normal interval at `confidence`, e.g. 0.95; not cut to the range of the metric."""
        half = float(ndtri(0.5 + confidence / 2) * np.sqrt((self.influence**2).sum()))
        return Interval(value=self.value, low=self.value - half, high=self.value + half)


def estimate_cells(
    labels: Array,
    scores: Array,
    scenario: Array,
    tasks: Sequence[Task],
    *,
    scenarios: Sequence[str],
    choice_set: Array | None = None,
    weight: Array | None = None,
) -> dict[str, Estimate]:
    """The metric of each cell by "scenario/task", as in `mean_of_cells`; cells without an estimate are left out.

    An estimate needs two rows of each class (AUC), or two rows (accuracy) or choice sets (hit rate).

    Args:
        labels: [N, T], NaN where unobserved.
        scores: [N, O], the logits of all tasks.
        scenario: [N], codes in the order of `scenarios`.
        tasks: the T tasks.
        scenarios: the names of the scenarios.
        choice_set: [N], which rows are candidates of one choice; required where there is a choice task.
        weight: [N], how much each row counts; default 1.
    """
    cells = {}
    for code, name in enumerate(scenarios):
        inside = np.asarray(scenario) == code
        for column, (task, outputs) in enumerate(zip(tasks, output_slices(tasks), strict=True)):
            observed = np.flatnonzero(inside & ~np.isnan(labels[:, column]))
            sets, weights = (None if values is None else values[observed] for values in (choice_set, weight))
            cell = _estimate(task, labels[observed, column], scores[observed, outputs], sets, weights)
            if cell is not None:
                cells[f"{name}/{task.name}"] = Estimate(
                    value=cell.value, rows=observed[cell.rows], influence=cell.influence
                )
    return cells


def mean_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of at least one estimate; the influences of a row that several of them share add up."""
    length = 1 + max(int(estimate.rows[-1]) for estimate in estimates)
    total = np.zeros(length)
    for estimate in estimates:
        total[estimate.rows] += estimate.influence / len(estimates)
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate(value=value, rows=np.arange(length), influence=total)


def _estimate(
    task: Task, labels: Array, scores: Array, choice_set: Array | None, weight: Array | None
) -> Estimate | None:
    if task.kind is TaskKind.MULTI_CLASS:
        return _share_correct(correct_classes(labels, scores), np.arange(len(labels)), weight)
    if task.kind is TaskKind.CHOICE:
        assert choice_set is not None  # encode writes it wherever there is a choice
        correct, of_sets = correct_choices(labels, scores[:, 0], choice_set, k=1), None
        if weight is not None:
            of_sets = choice_weights(labels, choice_set, weight)
        return _share_correct(correct, _first_rows(labels, choice_set), of_sets)
    if task.kind is TaskKind.REGRESSION or weight is not None:
        return _concordant(task, labels, scores[:, 0], weight)
    area, influence = auc(labels, scores[:, 0]), auc_influence(labels, scores[:, 0])
    if area is None or influence is None:
        return None
    return Estimate(value=area, rows=np.arange(len(labels)), influence=influence)


def _concordant(task: Task, labels: Array, scores: Array, weight: Array | None) -> Estimate | None:
    """AUC or XAUC of weighted rows; None with fewer than two rows that count, of a binary task in each class."""
    counted = labels if weight is None else labels[weight > 0]
    fewest = len(counted) if task.kind is TaskKind.REGRESSION else min((counted == 1).sum(), (counted == 0).sum())
    pairs = concordance(labels, scores, weight) if fewest >= 2 else None
    if pairs is None:
        return None
    return Estimate(value=pairs.value, rows=np.arange(len(labels)), influence=pairs.influence)


def _share_correct(correct: NDArray[np.bool_], rows: NDArray[np.int64], weight: Array | None = None) -> Estimate | None:
    """Accuracy or hit rate; the influence of `correct[i]`, which counts as `weight[i]`, is at the row `rows[i]`."""
    mass = np.ones(len(correct)) if weight is None else np.asarray(weight, np.float64)
    if (mass > 0).sum() < 2:
        return None
    value, order = float(np.average(correct, weights=mass)), np.argsort(rows)
    count = mass.sum() ** 2 / (mass @ mass)
    influence = mass / mass.sum() * (correct - value) * np.sqrt(count / (count - 1))
    return Estimate(value=value, rows=rows[order], influence=influence[order])


def _first_rows(labels: Array, choice_set: Array) -> NDArray[np.int64]:
    """The first row of each set that `correct_choices` has an answer for, in its order."""
    _, first, code = np.unique(choice_set, return_index=True, return_inverse=True)
    chosen = np.bincount(code, weights=np.asarray(labels) == 1)
    return first[(chosen > 0) & (chosen < np.bincount(code))]
