"""Predictions of a network for encoded rows, batch by batch, so that memory does not grow with the rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from common.errors import ModelError
from common.files import replacing
from features.encoding.tensors import Tensors
from features.schema import Schema, Task, TaskKind, output_slices
from models.model_folder import Model
from models.networks.hinet import HiNet

BATCH_ROWS = 8192
INPUTS = ("categorical", "bags", "numeric", "scenario")  # what every network reads, in this order


def predict(network: nn.Module, rows: Tensors, name: str, *, silent: bool = False) -> NDArray[np.float32]:
    """Logits [N, O] of the network called `name`; raises ModelError where one is not finite."""
    network.eval()  # batch normalisation uses its running statistics: a logit does not depend on the batch
    with torch.inference_mode():
        parts = [network(*inputs).numpy() for inputs in _batches(rows, f"predict {name}", silent=silent)]
    logits = np.concatenate(parts or [np.empty((0, rows.labels.shape[1]), np.float32)])
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise ModelError(f"model {name}: {broken} of {len(logits)} rows have a logit that is not finite; train again")
    return logits


def predict_calibrated(model: Model, rows: Tensors, *, silent: bool = False) -> NDArray[Any]:
    """Logits [N, O] of a model, as its probabilities are made of them: calibrated, where the model is.

    Raises ModelError where one is not finite.
    """
    logits = predict(model.network, rows, model.name, silent=silent)
    return logits if model.calibration is None else model.calibration.of_rows(logits, rows.scenario)


def mean_gates(network: HiNet, rows: Tensors, name: str) -> dict[str, NDArray[np.float64]]:
    """The mean weights of every gate over the rows of each scenario: names and shapes as in `HiNet.gates`.

    [M, ...] instead of [B, ...]; NaN for a scenario without rows.
    """
    scenarios = len(network.attention())
    sums: dict[str, NDArray[np.float64]] = {}
    for inputs in _batches(rows, f"gates of {name}"):
        one_hot = np.eye(scenarios)[inputs[-1].numpy()]  # [B, M]
        for gate, weights in network.gates(*inputs).items():
            sums[gate] = sums.get(gate, 0) + np.tensordot(one_hot, weights.double().numpy(), axes=(0, 0))
    counts = np.bincount(rows.scenario, minlength=scenarios).astype(np.float64)
    counts[counts == 0] = np.nan
    return {gate: total / counts.reshape(-1, *[1] * (total.ndim - 1)) for gate, total in sums.items()}


def write_predictions(path: Path, logits: NDArray[Any], rows: Tensors, schema: Schema) -> None:
    """Write event_id, scenario, and each task's label (null where unobserved) and logits [N, O] as Parquet.

    A label is int8 and has logit_<task>; that of a multi-class task is its class and has a logit_<task>=<class> each;
    that of a regression task is float32, and its logit is the network's output, before its scale. Logits of a
    calibrated model are calibrated, float64.
    """
    scenarios = pa.array(schema.scenarios, pa.string())
    columns = {
        "event_id": pa.array(np.asarray(rows.event_id)),
        "scenario": pa.DictionaryArray.from_arrays(np.asarray(rows.scenario), scenarios),
    }
    for column, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True)):
        codes = pa.array(np.asarray(rows.labels)[:, column], from_pandas=True)
        columns[task.name] = _labels(task, codes)
        for name, values in zip(task.output_names, logits[:, outputs].T, strict=True):
            columns[f"logit_{name}"] = pa.array(values)
    with replacing(path) as partial:
        pq.write_table(pa.table(columns), partial)


def _labels(task: Task, codes: pa.Array) -> pa.Array:
    if task.kind is TaskKind.REGRESSION:
        return codes
    return codes.cast(pa.int8()) if task.classes is None else _classes(task.classes, codes)


def _classes(classes: tuple[str | int, ...], codes: pa.Array) -> pa.Array:
    return pa.array(classes).take(codes.cast(pa.int32()))


def _batches(rows: Tensors, title: str, *, silent: bool = False) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The inputs of up to BATCH_ROWS rows at a time as tensors on the CPU, with progress on stderr."""
    disabled = {"disable": True} if silent else {}  # not False, which would override TQDM_DISABLE
    with tqdm(total=len(rows.scenario), desc=title, unit=" rows", unit_scale=True, **disabled) as progress:
        for start in range(0, len(rows.scenario), BATCH_ROWS):
            columns = (np.array(getattr(rows, name)[start : start + BATCH_ROWS]) for name in INPUTS)
            categorical, bags, numeric, scenario = map(torch.from_numpy, columns)
            yield categorical, bags, numeric, scenario
            progress.update(len(scenario))
