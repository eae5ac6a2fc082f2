"""The data of the plots: small JSON files of flat rows, one row a line, for DVC and git.

The looks are in .dvc/plots (Vega-Lite); dvc.yaml lists the plots that are shown. DVC leaves out a plot without rows
(the attention, where no model has one). The rows are in the order in which the plots show them.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.files import write_text
from features.encoding.tensors import Tensors
from features.schema import Schema, TaskKind, output_slices
from models.evaluation import metrics

DIGITS = 6
Row = dict[str, Any]
Curves = Mapping[str, list[Row]]


def auc_by_cell(report: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
    """AUC (XAUC) of every cell that has one, with its interval, for each model and for the best possible."""
    for model, measured in report.items():
        for cell in measured["cells"]:
            name = next((name for name in ("auc", "xauc") if name in cell), None)
            if name is not None:
                bounds = {f"auc{end}": cell[f"{name}{end}"] for end in ("", "_low", "_high")}
                yield {"model": model, "scenario": cell["scenario"], "task": cell["task"], **bounds}


def learning_curves(curves: Curves) -> Iterator[Row]:
    """Loss and mean AUC of every model by epoch; `curves` by model, as the stage `train` writes them."""
    for model, epochs in curves.items():
        for epoch in epochs:
            values = {key: _round(epoch[key]) for key in ("train_loss", "valid_loss", "valid_mean_auc")}
            yield {"model": model, "epoch": epoch["epoch"], **values}


def learning_curves_by_cell(curves: Curves, schema: Schema) -> Iterator[Row]:
    """AUC (XAUC) of every model and cell that has one on the valid rows, by epoch; null where a cell has one class."""
    ordered = [task.name for task in schema.tasks if task.kind in (TaskKind.BINARY, TaskKind.REGRESSION)]
    for task, scenario in itertools.product(ordered, schema.scenarios):
        for model, epochs in curves.items():
            for epoch in epochs:
                key = {"model": model, "scenario": scenario, "task": task, "epoch": epoch["epoch"]}
                yield {**key, "auc": _round(epoch["cells"][f"{scenario}/{task}"])}


def reliability(
    model: str, probabilities: NDArray[np.float64], rows: Tensors, schema: Schema, *, bins: int
) -> Iterator[Row]:
    """Mean predicted and observed of every bin of every cell whose labels are 0 or 1; probabilities [N, O]."""
    tasks = [
        (row, task.name, outputs.start)
        for row, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True))
        if task.name in schema.rated
    ]
    for (task, task_name, column), (code, scenario) in itertools.product(tasks, enumerate(schema.scenarios)):
        observed = (np.asarray(rows.scenario) == code) & ~np.isnan(rows.labels[:, task])
        diagram = metrics.reliability(rows.labels[observed, task], probabilities[observed, column], bins=bins)
        key = {"model": model, "scenario": scenario, "task": task_name}
        for predicted, share, count in zip(diagram.predicted, diagram.observed, diagram.rows, strict=True):
            yield {**key, "predicted": _round(predicted), "observed": _round(share), "rows": int(count)}


def attention(model: str, weights: NDArray[np.floating[Any]], schema: Schema) -> Iterator[Row]:
    """The attention of each scenario to each other one; weights [M, M]. A scenario has no weight for itself."""
    names = schema.scenarios
    for own, scenario in enumerate(names):
        for other, attended in enumerate(names):
            weight = None if own == other else _round(weights[own, other])
            yield {
                "model": model,
                "panel": "scenario attention",
                "scenario": scenario,
                "of": attended,
                "weight": weight,
            }


def gates(model: str, means: Mapping[str, NDArray[np.float64]], schema: Schema, task_experts: int) -> Iterator[Row]:
    """Mean weight of every expert over the rows of each scenario.

    `means` are those of `models.evaluation.predict.mean_gates`, by gate; of the experts of a task the first
    `task_experts` are its own.
    """
    if "scenarios" in means:  # a HiNet without hierarchy has none
        own = np.einsum("mmk->mk", means["scenarios"])  # each scenario's rows by its own gate
        yield from _panel(model, "shared expert", means["shared"], _numbered("sub-expert", own.shape[1]), schema)
        yield from _panel(model, "the scenario's own expert", own, _numbered("sub-expert", own.shape[1]), schema)
    shared = _numbered("shared", means["tasks"].shape[2] - task_experts)
    for task, name in enumerate(schema.task_names):
        experts = _numbered("own", task_experts) + shared
        yield from _panel(model, f"task {name}", means["tasks"][:, task], experts, schema)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as a JSON list, one row a line."""
    lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
    write_text(path, f"[\n{lines}\n]\n")


def _panel(model: str, panel: str, weights: NDArray[np.float64], experts: list[str], schema: Schema) -> Iterator[Row]:
    """One heat map: weights [M, experts]."""
    for scenario, row in zip(schema.scenarios, weights, strict=True):
        for expert, weight in zip(experts, row, strict=True):
            yield {"model": model, "panel": panel, "scenario": scenario, "of": expert, "weight": _round(weight)}


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name} {number}" for number in range(1, count + 1)]


def _round(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), DIGITS)
