"""Two models on the same rows: by how much one is better, with the interval of the difference.

What two models say of the same rows goes up and down together, and so the difference is known far better than either
figure. An estimate carries what each row adds to its error, so that differences and means of estimates are known as
well, also where they share rows, as the tasks of a scenario do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from features.schema import Task, TaskKind, places
from models.evaluation.accuracy import Interval, right_choices, right_classes
from models.evaluation.metrics import auc, auc_influence

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure of the rows at `places` [K] (ascending), and what each of them adds to its error, `influence` [K].

    The variance of the figure is the sum of the squares.
    """

    value: float
    places: NDArray[np.int64]
    influence: NDArray[np.float64]

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two figures of the same rows."""
        if not np.array_equal(self.places, other.places):
            raise ValueError("a paired difference is one of the same rows")
        return Estimate(value=self.value - other.value, places=self.places, influence=self.influence - other.influence)

    def interval(self, confidence: float) -> Interval:
        """The normal interval at `confidence`, e.g. 0.95; not cut to where the figure can lie."""
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
) -> dict[str, Estimate]:
    """The metric of each cell "scenario/task", as `mean_of_cells` has it; without cells that cannot be judged.

    labels [N, T] with NaN where unobserved, scores [N, O], scenario [N] codes, choice_set [N]. A cell is judged from
    two rows of each class, or from two rows or choices.
    """
    found = {}
    for code, name in enumerate(scenarios):
        inside = np.asarray(scenario) == code
        for column, (task, place) in enumerate(zip(tasks, places(tasks), strict=True)):
            kept = np.flatnonzero(inside & ~np.isnan(labels[:, column]))
            sets = None if choice_set is None else choice_set[kept]
            cell = _estimate(task, labels[kept, column], scores[kept, place], sets)
            if cell is not None:
                found[f"{name}/{task.name}"] = Estimate(
                    value=cell.value, places=kept[cell.places], influence=cell.influence
                )
    return found


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of at least one figure; rows that several of them share count together."""
    length = 1 + max(int(found.places[-1]) for found in estimates)
    total = np.zeros(length)
    for found in estimates:
        total[found.places] += found.influence / len(estimates)
    value = float(np.mean([found.value for found in estimates]))
    return Estimate(value=value, places=np.arange(length), influence=total)


def _estimate(task: Task, labels: Array, scores: Array, choice_set: Array | None) -> Estimate | None:
    if task.kind is TaskKind.MULTI_CLASS:
        return _share(right_classes(labels, scores), np.arange(len(labels)))
    if task.kind is TaskKind.CHOICE:
        assert choice_set is not None  # encode writes it wherever there is a choice
        return _share(right_choices(labels, scores[:, 0], choice_set, first=1), _first_rows(labels, choice_set))
    area, influence = auc(labels, scores[:, 0]), auc_influence(labels, scores[:, 0])
    if area is None or influence is None:
        return None
    return Estimate(value=area, places=np.arange(len(labels)), influence=influence)


def _share(right: NDArray[np.bool_], rows: NDArray[np.int64]) -> Estimate | None:
    """The share of what is right, each at one row of its own."""
    if len(right) < 2:
        return None
    value, order = float(right.mean()), np.argsort(rows)
    influence = (right - value) / np.sqrt(len(right) * (len(right) - 1))
    return Estimate(value=value, places=rows[order], influence=influence[order])


def _first_rows(labels: Array, choice_set: Array) -> NDArray[np.int64]:
    """The first row of each set that `right_choices` can tell something of, in its order."""
    _, first, code = np.unique(choice_set, return_index=True, return_inverse=True)
    chosen = np.bincount(code, weights=np.asarray(labels) == 1)
    return first[(chosen > 0) & (chosen < np.bincount(code))]
