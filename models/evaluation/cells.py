"""All metrics of one cell (a scenario and a task), rounded, with the reason where one of them is undefined."""

from typing import Any

import numpy as np
import sklearn.metrics
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import spearmanr

from common.params import Evaluate
from features.encoding.tensors import Tensors
from features.schema import Task, TaskKind
from models.evaluation import accuracy, metrics
from models.evaluation.concordance import concordance

DIGITS = 6
HIT_RATE_AT = (1, 5)
METRICS = {
    TaskKind.BINARY: "auc",
    TaskKind.MULTI_CLASS: "accuracy",
    TaskKind.CHOICE: "hr1",
    TaskKind.REGRESSION: "xauc",
}
NO_ROWS = "no rows with this label"
Cell = dict[str, Any]


def measure_cell(
    task: Task,
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
    observed: NDArray[np.int64],
    rows: Tensors,
    settings: Evaluate,
) -> Cell:
    """The metrics of the task's kind.

    Args:
        task: the task of the cell.
        labels: [K], those of the rows `observed`.
        probabilities: [K, outputs of the task].
        observed: [K], the indices of the cell's rows whose label is observed.
        rows: all rows, for their users and choice sets.
        settings: bins of the calibration, level of the intervals.
    """
    if task.kind is TaskKind.MULTI_CLASS:
        return measure_classes(labels, probabilities, settings)
    if task.kind is TaskKind.REGRESSION:
        return measure_regression(labels, probabilities[:, 0], settings)
    if task.kind is TaskKind.BINARY:
        return measure_binary(labels, probabilities[:, 0], np.asarray(rows.user)[observed], settings)
    assert rows.choice_set is not None  # encode writes it wherever there is a choice
    return measure_choice(labels, probabilities[:, 0], np.asarray(rows.choice_set)[observed], settings)


def measure_weighted(
    task: Task, labels: NDArray[Any], probabilities: NDArray[np.float64], observed: NDArray[np.int64], rows: Tensors
) -> Cell:
    """The metrics in which each row counts as its weight; none where rows have no weight.

    `weight` is the sum of the weights. The calibration is that of a task with one probability.
    """
    if rows.weight is None:
        return {}
    weight = np.asarray(rows.weight)[observed].astype(np.float64)
    sets = None if rows.choice_set is None else np.asarray(rows.choice_set)[observed]
    values = {f"weighted_{METRICS[task.kind]}": metrics.cell_metric(task, labels, probabilities, sets, weight)}
    if task.outputs == 1:
        values["weighted_calibration"] = metrics.calibration(labels * weight, probabilities[:, 0] * weight)
    return {**_rounded(values), "weight": round(float(weight.sum()), DIGITS)}


def measure_binary(
    labels: NDArray[Any], probabilities: NDArray[np.float64], user: NDArray[np.int64], settings: Evaluate
) -> Cell:
    """The metrics of a binary task's cell; labels, probabilities and user [N].

    An undefined metric is None, and `reason` says why.
    """
    area = metrics.auc_interval(labels, probabilities, confidence=settings.confidence)
    values = {
        "auc": metrics.auc(labels, probabilities),
        "auc_low": area.low if area else None,
        "auc_high": area.high if area else None,
        "logloss": metrics.log_loss(labels, probabilities),
        "ne": metrics.normalised_entropy(labels, probabilities),
        "calibration": metrics.calibration(labels, probabilities),
        "ece": metrics.calibration_error(metrics.reliability(labels, probabilities, bins=settings.bins)),
        "gauc": metrics.grouped_auc(labels, probabilities, user),
    }
    rounded = _rounded(values)
    counts = {"rows": len(labels), "positives": int(labels.sum())}
    return {**rounded, **counts, **_reason(rounded, **counts)}


def measure_classes(labels: NDArray[Any], probabilities: NDArray[np.float64], settings: Evaluate) -> Cell:
    """The metrics of a multi-class task's cell; labels [N] indices of classes, probabilities [N, C].

    `majority` is the share of the most frequent class: the accuracy of always predicting it.
    """
    values = _with_bounds("accuracy", accuracy.correct_classes(labels, probabilities), settings) | {
        "majority": float(np.bincount(labels.astype(np.int64)).max() / len(labels)) if len(labels) else None,
        "logloss": metrics.class_log_loss(labels, probabilities),
    }
    reason = {} if len(labels) else {"reason": NO_ROWS}
    return {"metric": "accuracy", **_rounded(values), "rows": len(labels), **reason}


def measure_regression(labels: NDArray[Any], expected: NDArray[np.float64], settings: Evaluate) -> Cell:
    """The metrics of a regression task's cell; labels and expected values [N] in the unit of the label.

    `xauc` is the share of pairs in order, with its interval; `mae` and `rmse` are errors, `r2` the share of the
    variance that is explained, `spearman` the rank correlation, `calibration` the sum of the expected values over that
    of the labels (None unless that is positive), `mean` the mean label.
    """
    pairs = concordance(labels, expected)
    wide, some = labels.astype(np.float64), len(labels) > 0
    half = ndtri(0.5 + settings.confidence / 2) * np.sqrt((pairs.influence**2).sum()) if pairs else 0.0
    varied = pairs is not None and np.ptp(expected) > 0
    values = {
        "xauc": pairs.value if pairs else None,
        "xauc_low": max(0.0, pairs.value - half) if pairs else None,
        "xauc_high": min(1.0, pairs.value + half) if pairs else None,
        "mae": float(np.abs(expected - wide).mean()) if some else None,
        "rmse": float(np.sqrt(((expected - wide) ** 2).mean())) if some else None,
        "r2": float(sklearn.metrics.r2_score(wide, expected)) if pairs else None,
        "spearman": float(spearmanr(wide, expected).statistic) if varied else None,
        "calibration": float(expected.sum() / wide.sum()) if wide.sum() > 0 else None,
        "mean": float(wide.mean()) if some else None,
    }
    reason = {} if pairs else {"reason": "one label only" if some else NO_ROWS}
    return {"metric": "xauc", **_rounded(values), "rows": len(labels), **reason}


def measure_choice(
    labels: NDArray[Any], probabilities: NDArray[np.float64], choice_set: NDArray[np.int64], settings: Evaluate
) -> Cell:
    """The hit rates of a choice's cell, within the sets; labels, probabilities and choice_set [N].

    `hr1` is the share of the sets in which the chosen candidate comes first, `hr5` among the first five; `chance` is
    the hr1 of a random order.
    """
    correct = {k: accuracy.correct_choices(labels, probabilities, choice_set, k=k) for k in HIT_RATE_AT}
    values = _with_bounds("hr1", correct[1], settings) | {f"hr{k}": accuracy.mean_correct(correct[k]) for k in correct}
    values["chance"] = accuracy.chance_hit_rate(labels, choice_set)
    why = "no set with a chosen candidate and another one" if len(labels) else NO_ROWS
    reason = {} if len(correct[1]) else {"reason": why}
    return {"metric": "hr1", **_rounded(values), "rows": len(labels), "sets": len(correct[1]), **reason}


def _with_bounds(name: str, correct: NDArray[np.bool_], settings: Evaluate) -> dict[str, float | None]:
    interval = accuracy.wilson_interval(correct, confidence=settings.confidence)
    bounds = (interval.value, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), bounds, strict=True))


def _rounded(values: dict[str, float | None]) -> Cell:
    return {name: None if value is None else round(value, DIGITS) for name, value in values.items()}


def _reason(values: Cell, rows: int, positives: int) -> dict[str, str]:
    """Why some of the values are None, or nothing."""
    if None not in values.values():
        return {}
    if not rows:
        return {"reason": NO_ROWS}
    if positives in (0, rows):
        return {"reason": f"one class only: {positives} positives in {rows} rows"}
    if values["gauc"] is None:
        return {"reason": "no user with both classes"}
    return {"reason": f"no interval: it needs two rows of each class, found {positives} positives in {rows} rows"}
