"""Stage: every model on the test rows, by scenario and task: metrics, plots, predictions.

One stage for all models, so that they are measured on the same rows. On the CPU, whatever the model was
trained on: the service runs there too and must give the same logits.
"""

import json
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.special import expit

import params
import stage
from errors import JoinError, ModelError
from features.encode import Tensors, open_tensors
from features.schema import Schema, read_schema
from models import metrics, page, plots, table
from models.folder import CURVES, Model, read_model
from models.hinet import HiNet
from models.predict import mean_gates, predict
from params import Evaluate

LIMIT = "limit"
DIGITS = 6
Cell = dict[str, Any]


def evaluate(
    *,
    models: list[Path],
    tensors: Path,
    truth: Path,
    schema: Path,
    out: Path,
    plots_out: Path,
    page_out: Path,
    predictions: Path,
) -> None:
    """Measure the models in the folders `models` on the test rows, beside the best possible where it is known."""
    torch.set_num_threads(stage.threads())
    settings, declared, test = params.load().evaluate, read_schema(schema), open_tensors(tensors / "test")
    read = [_read(folder, declared) for folder in models]
    logits = {model.name: predict(model.network, test, model.name) for model in read}
    probabilities = {name: expit(rows.astype(np.float64)) for name, rows in logits.items()}
    best = best_possible(truth, test, declared)
    known = probabilities if best is None else {**probabilities, LIMIT: best}
    report = {name: measure(rows, test, declared, settings) for name, rows in known.items()}
    write_metrics(out, report)
    for name, rows in logits.items():
        write_predictions(predictions / f"{name}.parquet", rows, test, declared)
    plots.write(plots_out / "auc.json", plots.areas(report))
    _plot_probabilities(plots_out, probabilities, test, declared, settings.bins)
    _plot_models(plots_out, dict(zip(models, read, strict=True)), test, declared)
    page.write(page_out)
    table.show_metrics(report)


def measure(probabilities: NDArray[np.float64], rows: Tensors, schema: Schema, settings: Evaluate) -> dict[str, Any]:
    """The metrics of every cell (scenario, task) for probabilities [N, T], and the mean of the AUCs that there are."""
    labels, scenario = np.asarray(rows.labels), np.asarray(rows.scenario)
    cells = []
    for code, name in enumerate(schema.scenarios):
        for task, task_name in enumerate(schema.task_names):
            kept = (scenario == code) & ~np.isnan(labels[:, task])
            found = measure_cell(labels[kept, task], probabilities[kept, task], np.asarray(rows.user)[kept], settings)
            cells.append({"scenario": name, "task": task_name, **found})
    areas = [cell["auc"] for cell in cells if cell["auc"] is not None]
    return {"cells": cells, "mean_auc": round(float(np.mean(areas)), DIGITS) if areas else None}


def measure_cell(
    labels: NDArray[Any], probabilities: NDArray[np.float64], user: NDArray[np.int64], settings: Evaluate
) -> Cell:
    """The metrics of one cell; labels, probabilities and user [N]. What has no meaning is None, with a `reason`."""
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
    rounded = {name: None if value is None else round(value, DIGITS) for name, value in values.items()}
    counts = {"rows": len(labels), "positives": int(labels.sum())}
    return {**rounded, **counts, **_reason(rounded, **counts)}


def best_possible(truth: Path, rows: Tensors, schema: Schema) -> NDArray[np.float64] | None:
    """The true probabilities [N, T] of the rows, or None where the truth is not known.

    Raises JoinError when the truth lacks some of the rows.
    """
    known = ds.dataset(truth, format="parquet")
    columns = [f"p_{task}" for task in schema.task_names]
    if not set(columns) <= set(known.schema.names):
        return None
    wanted = np.asarray(rows.event_id)
    found = known.to_table(columns=["event_id", *columns]).sort_by("event_id")
    place = np.searchsorted(found["event_id"].to_numpy(), wanted)
    ids = np.append(found["event_id"].to_numpy(), -1)[place]
    if (ids != wanted).any():
        raise JoinError(f"{truth}: no true probability for {int((ids != wanted).sum())} of {len(wanted)} test rows; "
                        "it is of another log than the tensors: run `dvc repro`")  # fmt: skip
    return np.stack([found[column].to_numpy()[place] for column in columns], axis=1)


def write_metrics(path: Path, report: dict[str, Any]) -> None:
    """Write the metrics as JSON, one cell a line: small in git, and a changed cell is a changed line."""
    lines = []
    for name, found in report.items():
        cells = ",\n".join(f"  {json.dumps(cell, allow_nan=False)}" for cell in found["cells"])
        lines.append(f' {json.dumps(name)}: {{"mean_auc": {json.dumps(found["mean_auc"])}, "cells": [\n{cells}]}}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_predictions(path: Path, logits: NDArray[np.float32], rows: Tensors, schema: Schema) -> None:
    """Write event_id, scenario, and each task's label (int8, null where unobserved) and logit_<task> as Parquet."""
    scenarios = pa.array(schema.scenarios, pa.string())
    columns = {
        "event_id": pa.array(np.asarray(rows.event_id)),
        "scenario": pa.DictionaryArray.from_arrays(np.asarray(rows.scenario), scenarios),
    }
    for task, name in enumerate(schema.task_names):
        columns[name] = pa.array(np.asarray(rows.labels)[:, task], from_pandas=True).cast(pa.int8())
        columns[f"logit_{name}"] = pa.array(logits[:, task])
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _read(folder: Path, declared: Schema) -> Model:
    model = read_model(folder)
    if model.schema.fingerprint() != declared.fingerprint():
        raise ModelError(f"{folder}: trained on the schema of {model.schema.name} ({model.schema.fingerprint()[:12]}), "
                         f"found {declared.name} ({declared.fingerprint()[:12]}); train it again")  # fmt: skip
    return model


def _reason(values: Cell, rows: int, positives: int) -> dict[str, str]:
    """Why some of the values are None, or nothing."""
    if None not in values.values():
        return {}
    if not rows:
        return {"reason": "no rows with this label"}
    if positives in (0, rows):
        return {"reason": f"one class only: {positives} positives in {rows} rows"}
    if values["gauc"] is None:
        return {"reason": "no user with both classes"}
    return {"reason": f"no interval: it needs two rows of each class, found {positives} positives in {rows} rows"}


def _plot_probabilities(
    folder: Path, probabilities: dict[str, NDArray[np.float64]], test: Tensors, schema: Schema, bins: int
) -> None:
    found = (plots.reliability(name, rows, test, schema, bins=bins) for name, rows in probabilities.items())
    plots.write(folder / "reliability.json", chain.from_iterable(found))


def _plot_models(folder: Path, models: dict[Path, Model], test: Tensors, schema: Schema) -> None:
    """How the models learned, and what is inside those that are a HiNet."""
    curves = {model.name: json.loads((place / CURVES).read_text()) for place, model in models.items()}
    plots.write(folder / "learning.json", plots.learning(curves))
    plots.write(folder / "cells.json", plots.learning_by_cell(curves, schema))
    inside = {model.name: model.network for model in models.values() if isinstance(model.network, HiNet)}
    heard = (plots.attention(name, network.attention().numpy(), schema) for name, network in inside.items())
    plots.write(folder / "attention.json", chain.from_iterable(heard))
    used = (plots.gates(name, mean_gates(network, test, name), schema, network.control.task_experts)
            for name, network in inside.items())  # fmt: skip
    plots.write(folder / "gates.json", chain.from_iterable(used))


if __name__ == "__main__":
    stage.run(evaluate)
