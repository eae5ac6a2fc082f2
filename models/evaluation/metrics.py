"""Metrics of predictions: ranking (AUC), probabilities (log loss, calibration), ranking within a user (grouped AUC).

Labels are 0 or 1. The caller drops rows whose label is unobserved (NaN), except in `mean_auc` and `mean_of_cells`.
A metric that is undefined (one class, no rows) is None. Accuracy and hit rate are in models/evaluation/accuracy.py.
AUC and log loss are scikit-learn's; DeLong's intervals, grouped AUC and calibration, which it has not, are here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sklearn.metrics
from numpy.typing import NDArray
from scipy.special import entr, ndtri
from scipy.stats import rankdata

from features.schema import Task, TaskKind, output_slices, tasks_of
from models.evaluation.accuracy import Interval, choice_weights, correct_choices, correct_classes, mean_correct
from models.evaluation.concordance import concordance

Array = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Rows in bins of equal mass by their prediction: one entry per bin that has rows, lowest bin first."""

    predicted: Floats  # mean prediction of the bin
    observed: Floats  # share of positives in the bin
    rows: NDArray[np.int64]


def auc(labels: Array, scores: Array, weight: Array | None = None) -> float | None:
    """Share of (positive, negative) pairs in which the positive has the higher score; a tie counts half.

    labels [N] 0 or 1, scores [N] finite, on any scale. A pair counts as the product of the `weight` [N] of its rows,
    default 1. None when one class is missing, or has no weight.
    """
    positive = np.asarray(labels) == 1
    counted = positive if weight is None else positive[weight > 0]
    if not 0 < counted.sum() < len(counted):
        return None
    return float(sklearn.metrics.roc_auc_score(positive, scores, sample_weight=weight))


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
    """The contribution of each row to the error of the AUC [N]; None with fewer than two rows of a class.

    The sum of the squares is DeLong's variance of the AUC. The sum of the products with the influence of other scores
    of the same rows is his covariance of the two AUCs.
    """
    positive = np.asarray(labels) == 1
    wins = _placements(labels, scores)
    if min(map(len, wins)) < 2:
        return None
    influence = np.empty(len(positive))
    for own, share, sign in zip((positive, ~positive), wins, (1, -1), strict=True):
        influence[own] = sign * (share - share.mean()) / np.sqrt(len(share) * (len(share) - 1))
    return influence


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
    weight: Array | None = None,
) -> tuple[float, Floats]:
    """The mean of the cells' metrics, and the metric of every cell [M, T]; a cell is a scenario and a task.

    The metric is the AUC of a binary task, the accuracy of a multi-class one, the hit rate at 1 of a choice, the XAUC
    of a regression (on the scale of an AUC: 0.5 is chance): between 0 and 1, higher is better. It is NaN in a cell
    where it is undefined (a binary one: a class is missing). The mean leaves such cells out and is NaN where no cell is
    left.

    Args:
        labels: [N, T], NaN where unobserved.
        scores: [N, O], the logits of all tasks, or anything in the same order.
        scenario: [N], in 0..scenarios-1.
        tasks: the T tasks.
        scenarios: M, the number of scenarios.
        choice_set: [N], which rows are candidates of one choice; required where there is a choice task.
        weight: [N], how much each row counts within its cell; default 1. All cells count alike in the mean.
    """
    table = np.full((scenarios, len(tasks)), np.nan)
    for row in range(scenarios):
        inside = np.flatnonzero(np.asarray(scenario) == row)
        for column, (task, outputs) in enumerate(zip(tasks, output_slices(tasks), strict=True)):
            observed = inside[~np.isnan(labels[inside, column])]
            sets, weights = (None if values is None else values[observed] for values in (choice_set, weight))
            value = cell_metric(task, labels[observed, column], scores[:, outputs][observed], sets, weights)
            table[row, column] = np.nan if value is None else value
    cells = table[~np.isnan(table)]
    return float(cells.mean()) if len(cells) else float("nan"), table


def cell_metric(
    task: Task, labels: Array, scores: Array, choice_set: Array | None, weight: Array | None = None
) -> float | None:
    """The metric of the task's kind: labels [N], scores [N, outputs of the task], choice_set [N], weight [N].

    A choice counts as the mean weight of its candidates. Raises ValueError where its rows have no choice_set.
    """
    if task.kind is TaskKind.MULTI_CLASS:
        return mean_correct(correct_classes(labels, scores), weight)
    if task.kind is TaskKind.BINARY:
        return auc(labels, scores[:, 0], weight)
    if task.kind is TaskKind.REGRESSION:
        pairs = concordance(labels, scores[:, 0], weight)
        return None if pairs is None else pairs.value
    if choice_set is None:
        raise ValueError(f"task {task.name} is a choice, but its rows have no choice_set to be ranked in")
    of_sets = None if weight is None else choice_weights(labels, choice_set, weight)
    return mean_correct(correct_choices(labels, scores[:, 0], choice_set, k=1), of_sets)


def grouped_auc(labels: Array, scores: Array, group: Array) -> float | None:
    """Mean over the groups with both classes of the AUC within the group, weighted by the group's rows.

    labels, scores and group [N]; group holds integers (a user's code). None when no group has both classes.
    Known as GAUC: Zhou et al., "Deep Interest Network", KDD 2018. One sort ranks the rows of all groups.
    """
    if not len(labels):
        return None
    _, code = np.unique(group, return_inverse=True)
    positive = np.asarray(labels) == 1
    rows, positives = np.bincount(code), np.bincount(code, weights=positive)
    rank = pd.Series(scores).groupby(code).rank().to_numpy()  # from 1; equal scores share the mean of their ranks
    ranks = np.bincount(code, weights=rank * positive)
    pairs = positives * (rows - positives)
    both = pairs > 0
    if not both.any():
        return None
    wins = ranks - positives * (positives + 1) / 2
    return float(np.average(wins[both] / pairs[both], weights=rows[both]))


def log_loss(labels: Array, probabilities: Array) -> float | None:
    """Mean of -log(probability of the label), in nats; None without rows.

    labels [N] 0 or 1, probabilities [N]; a probability of exactly 0 or 1 counts as the nearest float64 inside.
    """
    if not len(labels):
        return None
    return float(sklearn.metrics.log_loss(labels, np.asarray(probabilities, dtype=np.float64), labels=[0, 1]))


def class_log_loss(labels: Array, probabilities: Array) -> float | None:
    """Mean of -log(probability of the row's class), in nats; None without rows.

    labels [N] indices of classes, probabilities [N, C] whose rows sum to 1.
    """
    if not len(labels):
        return None
    return float(sklearn.metrics.log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def normalised_entropy(labels: Array, probabilities: Array) -> float | None:
    """Log loss divided by that of always predicting the base rate: below 1 is better than the base rate.

    None when one class is missing. He et al., "Practical lessons from predicting clicks on ads at
    Facebook", ADKDD 2014.
    """
    loss = log_loss(labels, probabilities)
    base = np.mean(labels) if len(labels) else 0.0
    return float(loss / (entr(base) + entr(1 - base))) if loss is not None and 0 < base < 1 else None


def calibration(labels: Array, probabilities: Array) -> float | None:
    """Sum of the predictions divided by the number of positives: above 1 is too high; None without a positive."""
    positives = np.sum(labels, dtype=np.float64)
    return float(np.sum(probabilities, dtype=np.float64) / positives) if positives else None


def reliability(labels: Array, probabilities: Array, *, bins: int) -> Bins:
    """Mean predicted and observed in `bins` bins of equal mass: each holds about N / bins rows.

    A row's bin comes from its midrank, so equal predictions share a bin and the order of rows does not
    matter. Bins that stay empty (many equal predictions) are left out.
    """
    rank = rankdata(probabilities)
    code = np.minimum((rank - 0.5) * bins // max(1, len(rank)), bins - 1).astype(np.int64)
    rows = np.bincount(code, minlength=bins)
    filled = rows > 0
    means = (np.bincount(code, weights=w, minlength=bins)[filled] / rows[filled] for w in (probabilities, labels))
    predicted, observed = means
    return Bins(predicted=predicted, observed=observed, rows=rows[filled])


def calibration_error(bins: Bins) -> float | None:
    """Expected calibration error: mean of |predicted - observed| over the bins, weighted by their rows.

    Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015, here over
    bins of equal mass (equal width would put nearly all rows of a rare event into one bin). None without rows.
    """
    if not len(bins.rows):
        return None
    return float(np.average(np.abs(bins.predicted - bins.observed), weights=bins.rows))


def _placements(labels: Array, scores: Array) -> tuple[Floats, Floats]:
    """For each positive the share of the negatives below it, for each negative the share of the positives below it."""
    positive, scores = np.asarray(labels) == 1, np.asarray(scores)
    below = rankdata(scores)  # less the rank within the own class: rows of the other class below each row
    for own in (positive, ~positive):
        below[own] -= rankdata(scores[own])
    return below[positive] / max(1, (~positive).sum()), below[~positive] / max(1, positive.sum())
