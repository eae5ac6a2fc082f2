"""The files of `dvc plots`: which of them exist, and which rows of models/evaluation/plots.py each of them holds."""

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoding.tensors import Tensors
from features.schema import Schema
from models.evaluation import plots
from models.evaluation.predict import mean_gates
from models.model_folder import CURVES, Model
from models.networks.hinet import HiNet


def write_auc(folder: Path, report: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the AUC of every model and cell of the report."""
    plots.write_rows(folder / "auc.json", plots.auc_by_cell(report))


def write_reliability(
    folder: Path, probabilities: Mapping[str, NDArray[np.float64]], test: Tensors, schema: Schema, bins: int
) -> None:
    """Write the reliability diagrams of every model; probabilities [N, O] by model."""
    rows = (plots.reliability(name, values, test, schema, bins=bins) for name, values in probabilities.items())
    plots.write_rows(folder / "reliability.json", chain.from_iterable(rows))


def write_learning(folder: Path, models: Mapping[Path, Model], schema: Schema) -> None:
    """Write the learning curves of the models, which are by their folders."""
    curves = {model.name: json.loads((path / CURVES).read_text()) for path, model in models.items()}
    plots.write_rows(folder / "learning.json", plots.learning_curves(curves))
    plots.write_rows(folder / "cells.json", plots.learning_curves_by_cell(curves, schema))


def write_weights(folder: Path, models: Mapping[Path, Model], test: Tensors, schema: Schema) -> None:
    """Write the scenario attention and the mean gates of those models that are a HiNet."""
    networks = {model.name: model.network for model in models.values() if isinstance(model.network, HiNet)}
    attention = (plots.attention(name, network.attention().numpy(), schema) for name, network in networks.items())
    plots.write_rows(folder / "attention.json", chain.from_iterable(attention))
    gates = (
        plots.gates(name, mean_gates(network, test, name), schema, network.control.task_experts)
        for name, network in networks.items()
    )
    plots.write_rows(folder / "gates.json", chain.from_iterable(gates))
