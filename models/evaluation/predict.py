"""What a network says of encoded rows, batch by batch, so that memory does not grow with them."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from common.errors import ModelError
from features.encoding.tensors import Tensors
from models.networks.hinet import HiNet
from models.training.batches import Part, Rows


def predict(network: nn.Module, rows: Tensors, name: str, *, silent: bool = False) -> NDArray[np.float32]:
    """Logits [N, O] of the network called `name`; raises ModelError where one is not finite."""
    network.eval()  # a normalization by the batch would tell rows by their neighbours
    with torch.inference_mode():
        parts = [network(*part[:4]).numpy() for part in _batches(rows, f"predict {name}", silent=silent)]
    logits = np.concatenate(parts or [np.empty((0, rows.labels.shape[1]), np.float32)])
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise ModelError(f"model {name}: {broken} of {len(logits)} rows have a logit that is not finite; train again")
    return logits


def mean_gates(network: HiNet, rows: Tensors, name: str) -> dict[str, NDArray[np.float64]]:
    """The mean weights of every gate over the rows of each scenario: gates' names and shapes as in `HiNet.gates`.

    [M, ...] instead of [B, ...]; NaN for a scenario without rows.
    """
    scenarios = len(network.attention())
    sums: dict[str, NDArray[np.float64]] = {}
    for part in _batches(rows, f"gates of {name}"):
        one = np.eye(scenarios)[part.scenario.numpy()]  # [B, M]
        for gate, weights in network.gates(*part[:4]).items():
            sums[gate] = sums.get(gate, 0) + np.tensordot(one, weights.double().numpy(), axes=(0, 0))
    counts = np.bincount(rows.scenario, minlength=scenarios).astype(np.float64)
    counts[counts == 0] = np.nan
    return {gate: total / counts.reshape(-1, *[1] * (total.ndim - 1)) for gate, total in sums.items()}


def _batches(rows: Tensors, title: str, *, silent: bool = False) -> Iterator[Part]:
    """The rows as tensors on the CPU, with progress on stderr."""
    quiet = {"disable": True} if silent else {}  # not False: TQDM_DISABLE is to be heard
    with tqdm(total=len(rows.scenario), desc=title, unit=" rows", unit_scale=True, **quiet) as progress:
        for part in Rows(rows, torch.device("cpu")).in_order():
            yield part
            progress.update(len(part.scenario))
