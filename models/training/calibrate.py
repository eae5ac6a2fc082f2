"""The fit of a calibration on the validation rows: a map for each cell, by scikit-learn.

Rows that trained the network would not do: it is surer of them than of new ones. Nor would the test rows, which say how
good the calibrated probabilities are. Letters as in models/networks/calibration.py; K bins or knots.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.isotonic import isotonic_regression
from sklearn.linear_model import LogisticRegression

from common.errors import ParameterError
from features.encoding.tensors import Tensors
from features.schema import Schema, TaskKind, output_slices
from models.networks.calibration import REASON, Calibration

FEWEST = 50  # rows of each class in a cell: with fewer the error of a map is as large as what it mends
BIN_ROWS, MOST_BINS = 100, 20  # of the isotonic regression
NEAREST = 0.01  # between two knots: a map as steep as a step would make a large difference of a rounding error
Floats = NDArray[np.float64]


class Points(NamedTuple):
    """Weight, mean logit and share of positives of K groups of rows, in order of the logits; each is [K]."""

    mass: Floats
    x: Floats
    y: Floats


def check_calibration(kind: str, schema: Schema) -> None:
    """Raises ParameterError where there is nothing to calibrate."""
    if kind != "none" and not any(task.kind is TaskKind.BINARY for task in schema.tasks):
        raise ParameterError(
            f"train.calibration: {kind} is of binary tasks, but {schema.name} has none: {list(schema.task_names)}; "
            "set it to none"
        )


def fit_calibration(kind: str, logits: NDArray[np.float32], valid: Tensors, schema: Schema) -> Calibration | None:
    """The calibration of a network with these logits [N, O] of the validation rows; None where `kind` is none.

    A cell with fewer than FEWEST rows of a class, or with a Platt line that falls, has no map and says why.
    """
    if kind == "none":
        return None
    scenario, labels = np.asarray(valid.scenario), np.asarray(valid.labels)
    weight = np.ones(len(labels)) if valid.weight is None else np.asarray(valid.weight, np.float64)
    cells = {}
    for code, name in enumerate(schema.scenarios):
        for column, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True)):
            if task.kind is TaskKind.BINARY:
                own = np.flatnonzero((scenario == code) & ~np.isnan(labels[:, column]) & (weight > 0))
                of_cell = logits[own, outputs.start].astype(np.float64), labels[own, column].astype(np.float64)
                cells[f"{name}/{task.name}"] = _fit_cell(kind, *of_cell, weight[own])
    return Calibration({"kind": kind, "cells": cells}, scenarios=schema.scenarios, outputs=schema.output_names)


def summary_of_calibration(calibration: Calibration) -> dict[str, Any]:
    """Its kind, how many cells it has maps for, and the cells without one with the reason."""
    cells = calibration.document["cells"]
    without = {name: cell[REASON] for name, cell in cells.items() if REASON in cell}
    return {"kind": calibration.document["kind"], "cells": len(cells) - len(without), "uncalibrated": without}


def _fit_cell(kind: str, logits: Floats, labels: Floats, weight: Floats) -> dict[str, Any]:
    """The arguments of the cell's map, or the reason why it has none."""
    positives = int(labels.sum())
    if min(positives, len(labels) - positives) < FEWEST:
        reason = f"{positives} positives in {len(labels)} validation rows, fewer than {FEWEST} of a class"
        return {REASON: reason}
    relative = weight / weight.mean()
    return (_platt if kind == "platt" else _isotonic)(logits, labels, relative)


def _platt(logits: Floats, labels: Floats, weight: Floats) -> dict[str, Any]:
    """Logistic regression without penalty on Platt's targets, which are a little inside of 0 and 1.

    So a and b are finite where the logits separate the classes. scikit-learn takes no targets but 0 and 1: each row is
    there as both, with the target and the rest as weights.
    """
    positives, negatives = weight @ labels, weight @ (1 - labels)
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    middle, spread = logits.mean(), logits.std()
    if np.ptp(logits) == 0:
        return {REASON: "all validation rows have the same logit"}
    both = np.tile((logits - middle) / spread, 2)[:, None], np.repeat([1, 0], len(logits))
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-9).fit(
        *both, sample_weight=np.concatenate([weight * target, weight * (1 - target)])
    )
    a = float(fitted.coef_[0, 0] / spread)
    b = float(fitted.intercept_[0] - a * middle)
    if a <= 0:
        return {REASON: f"the line falls (a = {a:.3g}): the network is no better than chance on the validation rows"}
    return {"a": a, "b": b}


def _isotonic(logits: Floats, labels: Floats, weight: Floats) -> dict[str, Any]:
    """Isotonic regression of bins of equal rows; a knot in the middle of each stretch of one value.

    A knot in the middle of the stretch, and not one at either end, makes the map strictly increasing: centered isotonic
    regression, A. Oron and N. Flournoy, Stat. Biopharm. Res. 9, 2017. A bin has one row more, with the cell's share
    of positives, so that no probability is 0 or 1.
    """
    bins = int(np.clip(len(logits) // BIN_ROWS, 1, MOST_BINS))
    number = np.empty(len(logits), np.int64)
    number[np.argsort(logits, kind="stable")] = np.arange(len(logits)) * bins // len(logits)
    points = _pooled(number, Points(weight, logits, labels))
    points = _pooled(_groups(points.x, NEAREST), points)
    y = (points.mass * points.y + np.average(labels, weights=weight)) / (points.mass + 1)
    points = Points(points.mass + 1, points.x, y)
    values = isotonic_regression(points.y, sample_weight=points.mass)
    knots = _pooled(_groups(values, 1e-9), points)
    return {"x": knots.x.tolist(), "y": logit(knots.y).tolist()}


def _groups(values: Floats, nearest: float) -> NDArray[np.int64]:
    """The number of the group of each of the rising values [K]: a new one begins with each rise beyond `nearest`."""
    return np.concatenate([[0], np.cumsum(np.diff(values) > nearest)])


def _pooled(number: NDArray[np.int64], points: Points) -> Points:
    """The points with the same number as one."""
    mass = np.bincount(number, points.mass).astype(np.float64)
    x, y = (np.bincount(number, points.mass * values) / mass for values in (points.x, points.y))
    return Points(mass, x, y)
