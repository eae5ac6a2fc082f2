"""Accuracy of classes and hit rate of choices, with Wilson's interval; logits to probabilities.

A tie counts as wrong: a class or a candidate must score higher than every other one, so that a network with the same
score for all of them is never correct.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri, softmax

from features.encoding.target_scale import TargetScale
from features.schema import Task, output_slices

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A metric and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def correct_classes(labels: Array, scores: Array) -> NDArray[np.bool_]:
    """Whether the class of each row has the highest score, and no other class the same: [N].

    labels [N] indices of classes, scores [N, C] on any scale that is the same for all classes of a row.
    """
    own = np.take_along_axis(scores, labels.astype(np.int64)[:, None], axis=1)
    correct: NDArray[np.bool_] = (scores >= own).sum(axis=1) == 1
    return correct


def correct_choices(labels: Array, scores: Array, choice_set: Array, *, k: int) -> NDArray[np.bool_]:
    """Whether the chosen candidate of each set is among its `k` highest scores: [number of sets with both labels].

    labels [N] 1 for the chosen candidate and 0 for the others, scores [N], choice_set [N] integers. A set without a
    chosen candidate, or without another one, is left out. Of several chosen candidates the best one counts.
    """
    if not len(labels):
        return np.zeros(0, np.bool_)
    _, code = np.unique(choice_set, return_inverse=True)
    chosen = np.asarray(labels) == 1
    best = np.full(code.max() + 1, -np.inf)
    np.maximum.at(best, code[chosen], scores[chosen])
    others = np.bincount(code, weights=~chosen)
    ahead = np.bincount(code, weights=~chosen & (scores >= best[code]))
    return (ahead < k)[(best > -np.inf) & (others > 0)]


def chance_hit_rate(labels: Array, choice_set: Array) -> float | None:
    """The expected hit rate at 1 of a random order: the mean of chosen / candidates over the sets with both labels."""
    _, code = np.unique(choice_set, return_inverse=True)
    candidates = np.bincount(code)
    chosen = np.bincount(code, weights=np.asarray(labels) == 1)
    both = (chosen > 0) & (chosen < candidates)
    return float((chosen[both] / candidates[both]).mean()) if both.any() else None


def choice_weights(labels: Array, choice_set: Array, weight: Array) -> NDArray[np.float64]:
    """The mean weight of the candidates of each set that `correct_choices` has an answer for, in its order."""
    _, code = np.unique(choice_set, return_inverse=True)
    candidates = np.bincount(code)
    chosen = np.bincount(code, weights=np.asarray(labels) == 1)
    means: NDArray[np.float64] = np.bincount(code, weights=weight) / np.maximum(candidates, 1)
    return means[(chosen > 0) & (chosen < candidates)]


def mean_correct(correct: NDArray[np.bool_], weight: Array | None = None) -> float | None:
    """Accuracy of classes, hit rate of choices, each counted as its `weight` [N] (1); None where nothing has any."""
    if not len(correct) or (weight is not None and not weight.any()):
        return None
    return float(correct.mean() if weight is None else np.average(correct, weights=weight))


def wilson_interval(correct: NDArray[np.bool_], *, confidence: float) -> Interval | None:
    """`mean_correct` with its interval at `confidence`, e.g. 0.95: E. B. Wilson, J. Am. Stat. Assoc. 22, 1927."""
    if not len(correct):
        return None
    z, n, value = ndtri(0.5 + confidence / 2), len(correct), float(correct.mean())
    middle, scale = value + z**2 / (2 * n), 1 + z**2 / n
    half = z * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return Interval(
        value=value, low=float(max(0, (middle - half) / scale)), high=float(min(1, (middle + half) / scale))
    )


def probabilities_of(
    logits: Array, tasks: tuple[Task, ...], targets: Mapping[str, TargetScale] | None = None
) -> NDArray[np.float64]:
    """Logits [N, O] -> probabilities [N, O]: the sigmoid of a single logit, the softmax of a task's classes.

    Of a regression task it is the expected value, in the unit of the label; `targets` are the scales of these tasks.
    """
    wide, scales = logits.astype(np.float64), targets or {}
    parts = zip(tasks, output_slices(tasks), strict=True)
    values = (
        scales[task.name].expected(wide[:, own]) if task.name in scales else _probabilities(wide[:, own])
        for task, own in parts
    )
    return np.concatenate(list(values), axis=1)


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)
    return probabilities
