"""The report of the stage `evaluate`: every cell's metrics of a model, and metrics.json."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.files import write_text
from common.params import Evaluate
from features.encoding.tensors import Tensors
from features.schema import Schema, output_slices
from models.evaluation.cells import DIGITS, measure_cell, measure_weighted
from models.evaluation.results_table import MEAN_ECE, UNCALIBRATED_MEAN_ECE, WEIGHTED_MEAN, metric_of


def measure(probabilities: NDArray[np.float64], rows: Tensors, schema: Schema, settings: Evaluate) -> dict[str, Any]:
    """The metrics of every cell (scenario, task) for probabilities [N, O], and the mean of those that choose the epoch.

    The mean is called `mean_auc` where every task is binary, else `mean`. A cell whose metric is not the AUC names its
    `metric`: accuracy, hr1 or xauc. Where rows have a weight, the weighted metrics stand beside the others, and their
    mean is `weighted_mean`.
    """
    labels, scenario = np.asarray(rows.labels), np.asarray(rows.scenario)
    cells = []
    for code, name in enumerate(schema.scenarios):
        for column, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True)):
            observed = np.flatnonzero((scenario == code) & ~np.isnan(labels[:, column]))
            own = labels[observed, column], probabilities[observed, outputs], observed, rows
            cell = measure_cell(task, *own, settings) | measure_weighted(task, *own)
            cells.append({"scenario": name, "task": task.name, **cell})
    name = "mean_auc" if all(metric_of(cell) == "auc" for cell in cells) else "mean"
    weighted = {} if rows.weight is None else {WEIGHTED_MEAN: _mean(cells, "weighted_")}
    return {"cells": cells, name: _mean(cells), **weighted}


def add_uncalibrated(measured: dict[str, Any], before: dict[str, Any]) -> None:
    """Add to the metrics of a calibrated model those of its uncalibrated probabilities, `before`.

    ECE and log loss by cell, and the mean ECE of both.
    """
    pairs = [pair for pair in zip(measured["cells"], before["cells"], strict=True) if "ece" in pair[0]]
    for cell, uncalibrated in pairs:
        cell |= {f"uncalibrated_{name}": uncalibrated[name] for name in ("ece", "logloss")}
    for name in (MEAN_ECE, UNCALIBRATED_MEAN_ECE):
        values = [cell[name.replace("mean_", "")] for cell, _ in pairs]
        known = [value for value in values if value is not None]
        measured[name] = round(float(np.mean(known)), DIGITS) if known else None


def _mean(cells: list[dict[str, Any]], prefix: str = "") -> float | None:
    """The mean of the cells' metrics, of those whose names begin with `prefix`; None without any."""
    values = [cell[prefix + metric_of(cell)] for cell in cells]
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), DIGITS) if known else None


def write_metrics(path: Path, report: dict[str, Any]) -> None:
    """Write the metrics as JSON, one cell a line: small in git, and a changed cell is a changed line."""
    lines = []
    for name, measured in report.items():
        cells = ",\n".join(f"  {json.dumps(cell, allow_nan=False)}" for cell in measured["cells"])
        means = "".join(f'"{mean}": {json.dumps(measured[mean])}, ' for mean in measured if mean != "cells")
        lines.append(f' {json.dumps(name)}: {{{means}"cells": [\n{cells}]}}')
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
