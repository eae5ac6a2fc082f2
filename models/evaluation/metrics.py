"""How good predictions are: ranking (AUC), probabilities (log loss, calibration), ranking within a user.

Everything rests on midranks: one sort, no loop over rows or groups. Labels are 0 or 1; rows whose label is
unobserved (NaN) are dropped by the caller, except in `mean_auc` and `mean_of_cells`. Where a figure has no meaning (one
class, no rows) the answer is None. What is right or wrong (classes, choices) is in models/evaluation/accuracy.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, ndtri, xlogy

from features.schema import Task, TaskKind, places, tasks_of
from models.evaluation.accuracy import Interval, right_choices, right_classes, share

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Rows in bins of equal mass by their prediction, one entry per bin that has rows, lowest bin first."""

    predicted: Floats  # mean prediction of the bin
    observed: Floats  # share of positives in the bin
    rows: NDArray[np.int64]


def auc(labels: Array, scores: Array) -> float | None:
    """Share of (positive, negative) pairs in which the positive has the higher score; a tie counts half.

    labels [N] 0 or 1, scores [N] finite, on any scale. None when one class is missing.
    """
    positive = np.asarray(labels) == 1
    pairs = positive.sum() * (~positive).sum()
    return float(_wins(_midranks(scores)[positive]) / pairs) if pairs else None


def auc_interval(labels: Array, scores: Array, *, confidence: float) -> Interval | None:
    """AUC with its interval at `confidence`, e.g. 0.95; None with fewer than two rows of a class.

    DeLong et al., "Comparing the areas under two or more correlated receiver operating characteristic
    curves", Biometrics 44, 1988, by the midranks of Sun and Xu, "Fast implementation of DeLong's algorithm",
    IEEE Signal Processing Letters 21, 2014. The interval is cut to [0, 1].
    """
    wins = _placements(labels, scores)
    if min(map(len, wins)) < 2:
        return None
    half = ndtri(0.5 + confidence / 2) * np.sqrt(sum(s.var(ddof=1) / len(s) for s in wins))
    value = wins[0].mean()
    return Interval(value=float(value), low=float(max(0, value - half)), high=float(min(1, value + half)))


def auc_influence(labels: Array, scores: Array) -> Floats | None:
    """What each row adds to the error of the AUC [N]; None with fewer than two rows of a class.

    The sum of the squares is DeLong's variance of the AUC; that of the products with those of other scores of the same
    rows, his covariance of the two AUCs.
    """
    positive = np.asarray(labels) == 1
    wins = _placements(labels, scores)
    if min(map(len, wins)) < 2:
        return None
    found = np.empty(len(positive))
    for own, held, sign in zip((positive, ~positive), wins, (1, -1), strict=True):
        found[own] = sign * (held - held.mean()) / np.sqrt(len(held) * (len(held) - 1))
    return found


def mean_auc(labels: Array, scores: Array, scenario: Array, scenarios: int) -> tuple[float, Floats]:
    """`mean_of_cells` where every task is binary: the mean AUC, and the AUC of every cell."""
    return mean_of_cells(labels, scores, scenario, tasks_of(map(str, range(labels.shape[1]))), scenarios=scenarios)


def mean_of_cells(
    labels: Array,
    scores: Array,
    scenario: Array,
    tasks: Sequence[Task],
    *,
    scenarios: int,
    choice_set: Array | None = None,
) -> tuple[float, Floats]:
    """The mean over the cells (scenario, task) of each one's own metric, and the metric of every cell.

    AUC of a binary task, accuracy of a multi-class one, hit rate at 1 of a choice: all between 0 and 1, all better when
    higher. labels [N, T] with NaN where unobserved, scores [N, O], scenario [N] in 0..scenarios-1, choice_set [N]. The
    table is [scenarios, T] with NaN where a cell has no answer (a binary one: a class is missing); the mean is NaN when
    none has one.
    """
    table = np.full((scenarios, len(tasks)), np.nan)
    for row in range(scenarios):
        inside = np.flatnonzero(np.asarray(scenario) == row)
        for column, (task, place) in enumerate(zip(tasks, places(tasks), strict=True)):
            kept = inside[~np.isnan(labels[inside, column])]
            sets = None if choice_set is None else choice_set[kept]
            found = of_cell(task, labels[kept, column], scores[:, place][kept], sets)
            table[row, column] = np.nan if found is None else found
    cells = table[~np.isnan(table)]
    return float(cells.mean()) if len(cells) else float("nan"), table


def of_cell(task: Task, labels: Array, scores: Array, choice_set: Array | None) -> float | None:
    """The metric of the task's kind: labels [N], scores [N, outputs of the task], choice_set [N]."""
    if task.kind is TaskKind.MULTI_CLASS:
        return share(right_classes(labels, scores))
    if task.kind is TaskKind.BINARY:
        return auc(labels, scores[:, 0])
    if choice_set is None:
        raise ValueError(f"task {task.name} is a choice, but its rows have no choice_set to be ranked in")
    return share(right_choices(labels, scores[:, 0], choice_set, first=1))


def grouped_auc(labels: Array, scores: Array, group: Array) -> float | None:
    """Mean over the groups with both classes of the AUC within the group, weighted by the group's rows.

    labels, scores and group [N]; group holds integers (a user's code). None when no group has both classes.
    With one sort for all groups. Known as GAUC: Zhou et al., "Deep Interest Network", KDD 2018.
    """
    if not len(labels):
        return None
    _, code = np.unique(group, return_inverse=True)
    positive = np.asarray(labels) == 1
    rows, positives = np.bincount(code), np.bincount(code, weights=positive)
    ranks = np.bincount(code, weights=_midranks(scores, code) * positive)
    pairs = positives * (rows - positives)
    both = pairs > 0
    if not both.any():
        return None
    wins = ranks - positives * (positives + 1) / 2
    return float(np.average(wins[both] / pairs[both], weights=rows[both]))


def log_loss(labels: Array, probabilities: Array) -> float | None:
    """Mean of -log(probability of what happened), in nats; None without rows.

    labels [N] 0 or 1, probabilities [N]; a probability of exactly 0 or 1 counts as the nearest float inside.
    """
    if not len(labels):
        return None
    edge = np.finfo(np.float64).eps
    p = np.clip(np.asarray(probabilities, dtype=np.float64), edge, 1 - edge)
    return float(-(xlogy(labels, p) + xlogy(1 - labels, 1 - p)).mean())


def normalised_entropy(labels: Array, probabilities: Array) -> float | None:
    """Log loss divided by that of always predicting the base rate: below 1 is better than the base rate.

    None when one class is missing. He et al., "Practical lessons from predicting clicks on ads at
    Facebook", ADKDD 2014.
    """
    loss = log_loss(labels, probabilities)
    base = np.mean(labels) if len(labels) else 0.0
    return float(loss / (entr(base) + entr(1 - base))) if loss is not None and 0 < base < 1 else None


def calibration(labels: Array, probabilities: Array) -> float | None:
    """Mean predicted divided by mean observed: above 1 promises too much; None without a positive."""
    positives = np.sum(labels, dtype=np.float64)
    return float(np.sum(probabilities, dtype=np.float64) / positives) if positives else None


def reliability(labels: Array, probabilities: Array, *, bins: int) -> Bins:
    """Mean predicted and observed in `bins` bins of equal mass: each holds about N / bins rows.

    A row's bin comes from its midrank, so equal predictions share a bin and the order of rows does not
    matter. Bins that stay empty (many equal predictions) are left out.
    """
    rank = _midranks(probabilities)
    code = np.minimum((rank - 0.5) * bins // max(1, len(rank)), bins - 1).astype(np.int64)
    rows = np.bincount(code, minlength=bins)
    kept = rows > 0
    means = (np.bincount(code, weights=w, minlength=bins)[kept] / rows[kept] for w in (probabilities, labels))
    predicted, observed = means
    return Bins(predicted=predicted, observed=observed, rows=rows[kept])


def calibration_error(found: Bins) -> float | None:
    """Expected calibration error: mean of |predicted - observed| over the bins, weighted by their rows.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015, here over
    bins of equal mass (equal width would put nearly all rows of a rare event into one bin). None without rows.
    """
    if not len(found.rows):
        return None
    return float(np.average(np.abs(found.predicted - found.observed), weights=found.rows))


def _placements(labels: Array, scores: Array) -> tuple[Floats, Floats]:
    """For each positive the share of the negatives below it, for each negative the share of the positives below it."""
    positive = np.asarray(labels) == 1
    beaten = _midranks(scores) - _midranks(scores, positive)  # rows of the other class below each row
    return beaten[positive] / max(1, (~positive).sum()), beaten[~positive] / max(1, positive.sum())


def _wins(ranks: Floats) -> float:
    """Pairs won by the rows of these ranks: the Mann-Whitney statistic."""
    return ranks.sum() - len(ranks) * (len(ranks) + 1) / 2


def _midranks(scores: Array, group: Array | None = None) -> Floats:
    """Rank of each row among its group, from 1; equal scores share the mean of their ranks. [N]"""
    scores = np.asarray(scores)
    if not len(scores):
        return np.zeros(0)
    order = np.argsort(scores, kind="stable") if group is None else np.lexsort((scores, group))
    starts = _changes(scores[order]) if group is None else _changes(scores[order]) | _changes(group[order])
    first = np.flatnonzero(starts)
    middle = (first + np.append(first[1:], len(scores)) + 1) / 2  # mean of the ranks first+1 .. next first
    sorted_ranks = np.repeat(middle, np.diff(np.append(first, len(scores))))
    if group is not None:
        sorted_ranks -= _offset(group[order])
    ranks = np.empty(len(scores))
    ranks[order] = sorted_ranks
    return ranks


def _changes(ordered: Array) -> NDArray[np.bool_]:
    """Whether a row differs from the one before it; the first one does. [N]"""
    return np.append(True, ordered[1:] != ordered[:-1])


def _offset(ordered: Array) -> NDArray[np.int64]:
    """How many rows lie before the group of each row, where groups lie one behind the other. [N]"""
    first = np.flatnonzero(_changes(ordered))
    return np.repeat(first, np.diff(np.append(first, len(ordered))))
