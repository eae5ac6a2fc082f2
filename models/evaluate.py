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

from common import params, stage
from common.errors import JoinError, ModelError
from common.params import Evaluate
from features.encoding.tensors import Tensors, open_tensors
from features.schema import Schema, Task, TaskKind, places, read_schema
from models.evaluation import accuracy, metrics, plots, plots_page, results_table
from models.evaluation.predict import mean_gates, predict
from models.evaluation.results_table import mean_of, metric_of
from models.model_folder import CURVES, Model, read_model
from models.networks.hinet import HiNet

LIMIT = "limit"
DIGITS = 6
FIRST = (1, 5)  # a choice is a hit among so many
NO_ROWS = "no rows with this label"
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
    probabilities = {name: accuracy.probabilities_of(rows, declared.tasks) for name, rows in logits.items()}
    best = best_possible(truth, test, declared)
    known = probabilities if best is None else {**probabilities, LIMIT: best}
    report = {name: measure(rows, test, declared, settings) for name, rows in known.items()}
    write_metrics(out, report)
    for name, rows in logits.items():
        write_predictions(predictions / f"{name}.parquet", rows, test, declared)
    plots.write(plots_out / "auc.json", plots.areas(report))
    _plot_probabilities(plots_out, probabilities, test, declared, settings.bins)
    _plot_models(plots_out, dict(zip(models, read, strict=True)), test, declared)
    plots_page.write(page_out)
    results_table.show_metrics(report)


def measure(probabilities: NDArray[np.float64], rows: Tensors, schema: Schema, settings: Evaluate) -> dict[str, Any]:
    """The metrics of every cell (scenario, task) for probabilities [N, O], and the mean of those that choose the epoch.

    That mean is called `mean_auc` where every task is binary, else `mean`: a cell that is not measured by its AUC names
    its `metric`, accuracy or hr1.
    """
    labels, scenario = np.asarray(rows.labels), np.asarray(rows.scenario)
    cells = []
    for code, name in enumerate(schema.scenarios):
        for column, (task, place) in enumerate(zip(schema.tasks, places(schema.tasks), strict=True)):
            kept = np.flatnonzero((scenario == code) & ~np.isnan(labels[:, column]))
            found = _measure(task, labels[kept, column], probabilities[kept, place], kept, rows, settings)
            cells.append({"scenario": name, "task": task.name, **found})
    figures = [cell[metric_of(cell)] for cell in cells if cell[metric_of(cell)] is not None]
    name = "mean_auc" if all(metric_of(cell) == "auc" for cell in cells) else "mean"
    return {"cells": cells, name: round(float(np.mean(figures)), DIGITS) if figures else None}


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
    rounded = _rounded(values)
    counts = {"rows": len(labels), "positives": int(labels.sum())}
    return {**rounded, **counts, **_reason(rounded, **counts)}


def measure_classes(labels: NDArray[Any], probabilities: NDArray[np.float64], settings: Evaluate) -> Cell:
    """The metrics of a cell of a multi-class task; labels [N] places of classes, probabilities [N, C].

    `majority` is the share of the commonest class: the accuracy of who knows nothing of the row.
    """
    values = _share("accuracy", accuracy.right_classes(labels, probabilities), settings) | {
        "majority": float(np.bincount(labels.astype(np.int64)).max() / len(labels)) if len(labels) else None,
        "logloss": accuracy.class_log_loss(labels, probabilities),
    }
    reason = {} if len(labels) else {"reason": NO_ROWS}
    return {"metric": "accuracy", **_rounded(values), "rows": len(labels), **reason}


def measure_choice(
    labels: NDArray[Any], probabilities: NDArray[np.float64], choice_set: NDArray[np.int64], settings: Evaluate
) -> Cell:
    """The hit rates of a cell of a choice, within the sets; labels, probabilities and choice_set [N].

    `hr1` is the share of the sets in which the chosen candidate comes first, `hr5` among the first five; `chance` the
    mean of 1 / candidates: the hr1 of who knows nothing of them.
    """
    right = {first: accuracy.right_choices(labels, probabilities, choice_set, first=first) for first in FIRST}
    values = _share("hr1", right[1], settings) | {f"hr{first}": accuracy.share(right[first]) for first in FIRST}
    values["chance"] = accuracy.chance(labels, choice_set)
    reason = (
        {}
        if len(right[1])
        else {"reason": "no set with a chosen candidate and another one" if len(labels) else NO_ROWS}
    )
    return {"metric": "hr1", **_rounded(values), "rows": len(labels), "sets": len(right[1]), **reason}


def best_possible(truth: Path, rows: Tensors, schema: Schema) -> NDArray[np.float64] | None:
    """The true probabilities [N, O] of the rows, or None where the truth is not known.

    Raises JoinError when the truth lacks some of the rows.
    """
    known = ds.dataset(truth, format="parquet")
    columns = [f"p_{name}" for name in schema.output_names]
    if not set(columns) <= set(known.schema.names):
        return None
    wanted = np.asarray(rows.event_id)
    found = known.to_table(columns=["event_id", *columns]).sort_by("event_id")
    place = np.searchsorted(found["event_id"].to_numpy(), wanted)
    ids = np.append(found["event_id"].to_numpy(), -1)[place]
    if (ids != wanted).any():
        raise JoinError(
            f"{truth}: no true probability for {int((ids != wanted).sum())} of {len(wanted)} test rows; "
            "it is of another log than the tensors: run `dvc repro`"
        )
    return np.stack([found[column].to_numpy()[place] for column in columns], axis=1)


def write_metrics(path: Path, report: dict[str, Any]) -> None:
    """Write the metrics as JSON, one cell a line: small in git, and a changed cell is a changed line."""
    lines = []
    for name, found in report.items():
        cells = ",\n".join(f"  {json.dumps(cell, allow_nan=False)}" for cell in found["cells"])
        mean = mean_of(found)
        lines.append(f' {json.dumps(name)}: {{"{mean}": {json.dumps(found[mean])}, "cells": [\n{cells}]}}')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def write_predictions(path: Path, logits: NDArray[np.float32], rows: Tensors, schema: Schema) -> None:
    """Write event_id, scenario, and each task's label (null where unobserved) and logits as Parquet.

    A label is int8 and has logit_<task>; that of a multi-class task is its class and has a logit_<task>=<class> each.
    """
    scenarios = pa.array(schema.scenarios, pa.string())
    columns = {
        "event_id": pa.array(np.asarray(rows.event_id)),
        "scenario": pa.DictionaryArray.from_arrays(np.asarray(rows.scenario), scenarios),
    }
    for column, (task, place) in enumerate(zip(schema.tasks, places(schema.tasks), strict=True)):
        codes = pa.array(np.asarray(rows.labels)[:, column], from_pandas=True)
        columns[task.name] = codes.cast(pa.int8()) if task.classes is None else _classes(task.classes, codes)
        for name, values in zip(task.output_names, logits[:, place].T, strict=True):
            columns[f"logit_{name}"] = pa.array(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _classes(classes: tuple[str | int, ...], codes: pa.Array) -> pa.Array:
    return pa.array(classes).take(codes.cast(pa.int32()))


def _read(folder: Path, declared: Schema) -> Model:
    model = read_model(folder)
    if model.schema.fingerprint() != declared.fingerprint():
        raise ModelError(
            f"{folder}: trained on the schema of {model.schema.name} ({model.schema.fingerprint()[:12]}), "
            f"found {declared.name} ({declared.fingerprint()[:12]}); train it again"
        )
    return model


def _measure(
    task: Task,
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
    kept: NDArray[np.int64],
    rows: Tensors,
    settings: Evaluate,
) -> Cell:
    """The metrics of the task's kind: labels [K] and probabilities [K, outputs] of the rows `kept` [K]."""
    if task.kind is TaskKind.MULTI_CLASS:
        return measure_classes(labels, probabilities, settings)
    if task.kind is TaskKind.BINARY:
        return measure_cell(labels, probabilities[:, 0], np.asarray(rows.user)[kept], settings)
    assert rows.choice_set is not None  # encode writes it wherever there is a choice
    return measure_choice(labels, probabilities[:, 0], np.asarray(rows.choice_set)[kept], settings)


def _share(name: str, right: NDArray[np.bool_], settings: Evaluate) -> dict[str, float | None]:
    found = accuracy.share_interval(right, confidence=settings.confidence)
    bounds = (found.value, found.low, found.high) if found else (None, None, None)
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
    used = (
        plots.gates(name, mean_gates(network, test, name), schema, network.control.task_experts)
        for name, network in inside.items()
    )
    plots.write(folder / "gates.json", chain.from_iterable(used))


if __name__ == "__main__":
    stage.run(evaluate)
