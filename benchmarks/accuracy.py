"""Benchmark: every model over several seeds on the same rows; mean and spread of the test AUC per cell.

Reads what the pipeline made of the data set of params.yaml (`dvc repro encode` first), fits each model with each seed
under the recipe of params.yaml, and reports the test AUC of the epoch that the validation rows chose.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import params
import stage
from features.encode import Encoder, Tensors, open_tensors
from features.schema import Schema, read_schema
from models.fit import fit, repeatable
from models.folder import NETWORKS
from models.metrics import mean_auc
from models.predict import predict
from models.train import arguments_of, cell_weights, recipe_of
from params import Params


def accuracy(
    *,
    models: tuple[str, ...] = tuple(NETWORKS),
    seeds: int = 5,
    schema: Path = Path("data/schema.json"),
    encoder: Path = Path("artifacts/encoder.json"),
    tensors: Path = Path("data/tensors"),
    out: Path = Path("artifacts/accuracy.json"),
) -> None:
    """Fit each of `models` with seeds 1 to `seeds`; print the table and write it to `out`."""
    settings, declared = params.load(), read_schema(schema)
    layout = Encoder.read(encoder).layout
    torch.set_num_threads(stage.threads())
    report: dict[str, Any] = {"dataset": declared.name, "split": settings.join.split, "seeds": seeds, "models": {}}
    found: dict[str, NDArray[np.float64]] = {}
    for name in models:
        arguments = arguments_of(name, layout, len(declared.tasks), settings.train)
        found[name] = np.stack([
            test_auc(name, arguments, declared, tensors, settings, seed) for seed in range(1, seeds + 1)
        ])  # [seeds, M, T]  # fmt: skip
        report["models"][name] = summary(found[name], declared)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def test_auc(
    name: str, arguments: dict[str, Any], schema: Schema, tensors: Path, settings: Params, seed: int
) -> NDArray[np.float64]:
    """Fit one model with one seed; its AUC on the test rows [M, T], NaN where a cell has one class."""
    recipe = recipe_of(settings.train.model_copy(update={"seed": seed}))
    repeatable(seed)
    network = NETWORKS[name](**arguments)
    train, valid, test = (open_tensors(tensors / split) for split in ("train", "valid", "test"))
    weights = cell_weights(schema, settings.train)
    fit(
        network, train, valid, recipe, scenarios=schema.scenarios, tasks=schema.task_names,
        cell_weights=weights, device=settings.train.device,
    )  # fmt: skip
    return auc_table(network, test, schema)


def auc_table(network: torch.nn.Module, rows: Tensors, schema: Schema) -> NDArray[np.float64]:
    """AUC of each cell [M, T]."""
    return mean_auc(rows.labels, predict(network, rows, "test"), rows.scenario, len(schema.scenarios))[1]


def summary(values: NDArray[np.float64], schema: Schema) -> dict[str, Any]:
    """Mean, standard deviation (of the seeds, n - 1) and values per cell, and of the mean over the cells."""
    cells = {
        f"{scenario}/{task}": _spread(values[:, i, j])
        for i, scenario in enumerate(schema.scenarios)
        for j, task in enumerate(schema.task_names)
        if not np.isnan(values[:, i, j]).any()
    }
    return {"cells": cells, "mean_auc": _spread(np.nanmean(values, axis=(1, 2)))}


def _spread(values: NDArray[np.float64]) -> dict[str, Any]:
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return {"mean": round(float(values.mean()), 6), "std": round(deviation, 6), "values": values.round(6).tolist()}


def show(report: dict[str, Any]) -> None:
    """Print mean and standard deviation per cell and model."""
    models = report["models"]
    table = Table("cell", *models, title=f"{report['dataset']}: test AUC, mean ± deviation of {report['seeds']} seeds")
    for cell in next(iter(models.values()))["cells"]:
        table.add_row(cell, *(_text(found["cells"][cell]) for found in models.values()))
    table.add_row("mean", *(_text(found["mean_auc"]) for found in models.values()))
    Console(width=100).print(table)


def _text(spread: dict[str, Any]) -> str:
    return f"{spread['mean']:.4f} ± {spread['std']:.4f}"


if __name__ == "__main__":
    stage.run(accuracy)
