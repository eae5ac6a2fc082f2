"""The scorer: one encoded user row and item indices -> probabilities, in the fastest way that the network allows.

    cached    the items' partial activations of the first layer are in memory: a request runs the later layers
    split     the user's partial activations are computed once per request, the items' in the request
    full      the network's forward of complete rows, for networks whose first layer cannot be split

All modes give the logits of the network's forward to 1e-5. Letters as in serving/ranking/result.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.encoding.encoder import Batch
from features.encoding.target_scale import TargetScale
from models.inference.fused import FusedHiNet
from models.inference.fused_view import FusedViewHiNet, fused_hinet
from models.inference.partial_activations import ColumnIndices, PartialActivations, item_columns, pair_numbers
from models.model_folder import Model
from models.networks.hinet import HiNet
from serving.ranking.item_catalogue import ItemCatalogue, ItemIndex

CHUNK = 10_000  # items whose partial activations are computed at once
Fused = FusedHiNet | FusedViewHiNet
Numbers = NDArray[np.float32]
CACHED, SPLIT, FULL = "cached", "split", "full"


class Scorer:
    """Scores items of a catalogue; caches their partial activations if they fit into `megabytes`."""

    def __init__(self, model: Model, catalogue: ItemCatalogue, *, megabytes: float) -> None:
        self.model, self.catalogue = model, catalogue
        self.outputs = [task.outputs for task in model.schema.tasks]
        self.targets = [model.encoder.targets.get(task.name) for task in model.schema.tasks]
        self.item_columns = item_columns(model.encoder, model.schema, model.views)
        self.item_positions = _positions(self.item_columns, model)
        self.pairs = pair_numbers(model.encoder, model.views)
        self.fused = _fused(model, self.item_columns, self.pairs)
        count = len(catalogue.unknown)
        fits = self.fused is not None and self.fused.bytes_per_item * count <= megabytes * 1e6
        self.cache = _partial_activations(self.fused, catalogue) if self.fused and fits else None

    @property
    def mode(self) -> str:
        """CACHED, SPLIT or FULL: see the top of the file."""
        return FULL if self.fused is None else SPLIT if self.cache is None else CACHED

    def score(
        self, user: Batch, item_index: ItemIndex, rows: Batch | None = None, pairs: Numbers | None = None
    ) -> NDArray[np.float64]:
        """Probabilities (of regressions expected values) [N, O] of items for the first row of `user`, in its scenario.

        Calibrated, where the model is. `rows` [N, ..] replace the items' rows of the catalogue. `pairs` [N, P] are the
        numbers of user and item together, scaled, where the model reads some.
        """
        logits, calibration = self.logits(user, item_index, rows, pairs), self.model.calibration
        if calibration is not None:
            logits = torch.from_numpy(calibration.of_scenario(logits.numpy(), int(user.scenario[0])))
        return as_probabilities(logits, self.outputs, self.targets)

    @torch.inference_mode()
    def logits(
        self, user: Batch, item_index: ItemIndex, rows: Batch | None = None, pairs: Numbers | None = None
    ) -> Tensor:
        """Logits [N, O] of the network, float32; arguments as of `score`."""
        scenario = int(user.scenario[0])
        if self.fused is None:
            return forward(self.model, self.join_rows(user, item_index, rows, pairs))
        activations, of_pairs = self.fused.user(user), None if pairs is None else torch.from_numpy(pairs)
        if self.cache is not None and rows is None:
            return self.fused.rank(activations, self.cache, scenario, torch.from_numpy(item_index), of_pairs)
        return self.fused.rank_rows(activations, rows or self.catalogue.take(item_index), scenario, of_pairs)

    def join_rows(
        self, user: Batch, item_index: ItemIndex, rows: Batch | None = None, pairs: Numbers | None = None
    ) -> Batch:
        """Complete rows [N, ..]: the item columns from `rows` or the catalogue, `pairs`, all others from `user`."""
        items = rows or self.catalogue.take(item_index)
        parts = {}
        for name, positions in zip(("categorical", "bags", "numeric"), self.item_positions, strict=True):
            values = np.repeat(getattr(user, name)[:1], len(item_index), axis=0)
            values[:, positions] = getattr(items, name)[:, positions]
            parts[name] = values
        if pairs is not None:
            parts["numeric"][:, list(self.pairs)] = pairs
        return Batch(**parts, scenario=np.repeat(user.scenario[:1], len(item_index)))


@torch.inference_mode()
def forward(model: Model, batch: Batch) -> Tensor:
    """Logits [N, O] of the network's forward."""
    inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
    logits: Tensor = model.network(*inputs)
    return logits


def as_probabilities(
    logits: Tensor, outputs: Sequence[int], targets: Sequence[TargetScale | None] = ()
) -> NDArray[np.float64]:
    """Probability of each task, or of each class of a task with several `outputs` [N, O].

    Of a task with a scale in `targets` it is the expected value, in the unit of the label. The logits are float32; all
    is computed in float64.
    """
    if max(outputs) == 1 and not any(targets):
        return logits.double().sigmoid().numpy()
    parts = torch.split(logits.double(), list(outputs), dim=1)
    scales = targets or [None] * len(outputs)
    return np.concatenate([_values(part, scale) for part, scale in zip(parts, scales, strict=True)], axis=1)


def _values(logits: Tensor, scale: TargetScale | None) -> NDArray[np.float64]:
    """The probabilities, or the expected values, of one task [N, outputs of the task]."""
    if scale is not None:
        return scale.expected(logits.numpy())
    values: NDArray[np.float64] = (logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)).numpy()
    return values


def _fused(model: Model, columns: ColumnIndices, pairs: tuple[int, ...]) -> Fused | None:
    """The fused inference path of the model; None if its first layer cannot be split."""
    if not isinstance(model.network, HiNet):
        return None
    try:
        return fused_hinet(model.network, columns, pairs)
    except ValueError:  # its docstring names the networks
        return None


def _partial_activations(fused: Fused, catalogue: ItemCatalogue) -> PartialActivations:
    """The partial activations of all items of the catalogue, computed chunk by chunk."""
    count = len(catalogue.unknown)
    chunks = [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    parts = [fused.items(catalogue.take(chunk)) for chunk in chunks]
    return PartialActivations(*(torch.cat(of_each, dim=1) for of_each in zip(*parts, strict=True)))


def _positions(columns: ColumnIndices, model: Model) -> tuple[list[int], list[int], list[int]]:
    """The positions of the item columns among the categorical ids, the bags' ids and the numbers of encoded rows."""
    lengths = model.encoder.layout.bag_lengths
    starts = np.cumsum([0, *lengths])
    bags = [index for bag in columns.bags for index in range(int(starts[bag]), int(starts[bag]) + lengths[bag])]
    return list(columns.categorical), bags, list(columns.numeric)
