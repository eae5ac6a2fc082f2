"""What is right or wrong: the class that a network finds likeliest, the candidate that it puts first.

A tie is a failure: a class or a candidate has to be ahead of every other one, so that a network that says the same of
all is right about nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri, softmax

from features.schema import Task, places

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def right_classes(labels: Array, scores: Array) -> NDArray[np.bool_]:
    """Whether the class of each row has the highest score, and no other class the same: [N].

    labels [N] places of classes, scores [N, C] on any scale that is the same for all classes of a row.
    """
    own = np.take_along_axis(scores, labels.astype(np.int64)[:, None], axis=1)
    return (scores >= own).sum(axis=1) == 1


def right_choices(labels: Array, scores: Array, choice_set: Array, *, first: int) -> NDArray[np.bool_]:
    """Whether the chosen candidate of each set is among its `first` best, ties against it: [sets that can tell].

    labels [N] 1 for the chosen and 0 for the others, scores [N], choice_set [N] integers. A set without a chosen
    candidate, or without another one, tells nothing and is left out. Of several chosen ones the best counts.
    """
    if not len(labels):
        return np.zeros(0, np.bool_)
    _, code = np.unique(choice_set, return_inverse=True)
    chosen = np.asarray(labels) == 1
    best = np.full(code.max() + 1, -np.inf)
    np.maximum.at(best, code[chosen], scores[chosen])
    others = np.bincount(code, weights=~chosen)
    ahead = np.bincount(code, weights=~chosen & (scores >= best[code]))
    return (ahead < first)[(best > -np.inf) & (others > 0)]


def chance(labels: Array, choice_set: Array) -> float | None:
    """The hit rate at 1 of a draw among the candidates: the mean of chosen / all over the sets that can tell."""
    _, code = np.unique(choice_set, return_inverse=True)
    rows = np.bincount(code)
    chosen = np.bincount(code, weights=np.asarray(labels) == 1)
    told = (chosen > 0) & (chosen < rows)
    return float((chosen[told] / rows[told]).mean()) if told.any() else None


def share(right: NDArray[np.bool_]) -> float | None:
    """Accuracy of classes, hit rate of choices; None where there is nothing to be right about."""
    return float(right.mean()) if len(right) else None


def share_interval(right: NDArray[np.bool_], *, confidence: float) -> Interval | None:
    """The share with its interval at `confidence`, e.g. 0.95: E. B. Wilson, J. Am. Stat. Assoc. 22, 1927."""
    if not len(right):
        return None
    z, n, value = ndtri(0.5 + confidence / 2), len(right), float(right.mean())
    middle, scale = value + z**2 / (2 * n), 1 + z**2 / n
    half = z * np.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return Interval(
        value=value, low=float(max(0, (middle - half) / scale)), high=float(min(1, (middle + half) / scale))
    )


def class_log_loss(labels: Array, probabilities: Array) -> float | None:
    """Mean of -log(probability of the row's class), in nats; None without rows. labels [N], probabilities [N, C]."""
    if not len(labels):
        return None
    own = np.take_along_axis(probabilities, labels.astype(np.int64)[:, None], axis=1)
    return float(-np.log(np.clip(own, np.finfo(np.float64).eps, 1)).mean())


def probabilities_of(logits: Array, tasks: tuple[Task, ...]) -> NDArray[np.float64]:
    """Logits [N, O] -> probabilities [N, O]: the sigmoid of a single logit, the softmax of a task's classes."""
    wide = logits.astype(np.float64)
    return np.concatenate([_probabilities(wide[:, place]) for place in places(tasks)], axis=1)


def _probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)
    return found
