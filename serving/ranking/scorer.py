"""The model path: one encoded user row and the places of items -> probabilities.

    kept     the items' shares of the first layer lie in memory: what is left of a request is the later layers
    shared   the user's share is computed once per request, the items' in the request: no memory for all items
    plain    the whole forward: networks whose first layer cannot be split

All three give the logits of the network's forward to 1e-5. Letters as in serving/ranking/result.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.encoding.encoder import Batch
from models.inference.partial_activations import Columns, Share, item_columns
from models.inference.ranking import Sharing
from models.model_folder import Model
from models.networks.hinet import HiNet
from serving.ranking.item_catalogue import Catalogue, Places

CHUNK = 10_000  # items whose shares are made at once


class Scorer:
    """Scores the items of a catalogue with a model; keeps the items' shares if they fit into `megabytes`."""

    def __init__(self, model: Model, catalogue: Catalogue, *, megabytes: float) -> None:
        self.model, self.catalogue = model, catalogue
        self.outputs = [task.outputs for task in model.schema.tasks]
        self.of_item = item_columns(model.encoder, model.schema, model.views)
        self.places = _places(self.of_item, model)
        self.sharing = _sharing(model, self.of_item)
        count = len(catalogue.unknown)
        fits = self.sharing is not None and self.sharing.bytes_per_item * count <= megabytes * 1e6
        self.kept = _kept(self.sharing, catalogue) if self.sharing and fits else None

    @property
    def way(self) -> str:
        """kept, shared or plain: see the top of the file."""
        return "plain" if self.sharing is None else "shared" if self.kept is None else "kept"

    def score(self, user: Batch, places: Places, rows: Batch | None = None) -> NDArray[np.float64]:
        """Probabilities [N, O] of the items at `places` for the first of the rows `user`, in its scenario.

        `rows` are the items' rows where they are not those of the catalogue.
        """
        return as_probabilities(self.logits(user, places, rows), self.outputs)

    @torch.inference_mode()
    def logits(self, user: Batch, places: Places, rows: Batch | None = None) -> Tensor:
        """Logits [N, O], float32."""
        scenario = int(user.scenario[0])
        if self.sharing is None:
            return forward(self.model, self.joined(user, places, rows))
        share = self.sharing.user(user)
        if self.kept is not None and rows is None:
            return self.sharing.rank(share, self.kept, scenario, torch.from_numpy(places))
        return self.sharing.rank_rows(share, rows or self.catalogue.take(places), scenario)

    def joined(self, user: Batch, places: Places, rows: Batch | None = None) -> Batch:
        """Whole rows [N, ..]: the columns of the items from `rows` or the catalogue, all others from `user`."""
        items = rows or self.catalogue.take(places)
        parts = {}
        for name, mine in zip(("categorical", "bags", "numeric"), self.places, strict=True):
            whole = np.repeat(getattr(user, name)[:1], len(places), axis=0)
            whole[:, mine] = getattr(items, name)[:, mine]
            parts[name] = whole
        return Batch(**parts, scenario=np.repeat(user.scenario[:1], len(places)))


@torch.inference_mode()
def forward(model: Model, batch: Batch) -> Tensor:
    """Logits [N, O] of the network itself."""
    inputs = (torch.from_numpy(part) for part in (batch.categorical, batch.bags, batch.numeric, batch.scenario))
    logits: Tensor = model.network(*inputs)
    return logits


def as_probabilities(logits: Tensor, outputs: Sequence[int]) -> NDArray[np.float64]:
    """Probability of each task, or of each class of a task of several `outputs` [N, O].

    The logits are float32, their sigmoid or softmax is float64.
    """
    if max(outputs) == 1:
        return logits.double().sigmoid().numpy()
    parts = logits.double().split(list(outputs), dim=1)
    return torch.cat([p.sigmoid() if p.shape[1] == 1 else p.softmax(dim=1) for p in parts], dim=1).numpy()


def _sharing(model: Model, columns: Columns) -> Sharing | None:
    """What shares the first layer of the model, None where it cannot be split."""
    if not isinstance(model.network, HiNet):
        return None
    try:
        return Sharing(model.network, columns)
    except ValueError:  # its docstring names the networks
        return None


def _kept(sharing: Sharing, catalogue: Catalogue) -> Share:
    """The shares of all items of the catalogue, made chunk by chunk."""
    count = len(catalogue.unknown)
    chunks = [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    parts = [sharing.items(catalogue.take(chunk)) for chunk in chunks]
    return Share(*(torch.cat(of_each, dim=1) for of_each in zip(*parts, strict=True)))


def _places(columns: Columns, model: Model) -> tuple[list[int], list[int], list[int]]:
    """Where the items' columns lie among the categorical ids, the ids of the bags and the numbers of encoded rows."""
    lengths = model.encoder.layout.bag_lengths
    starts = np.cumsum([0, *lengths])
    bags = [place for bag in columns.bags for place in range(int(starts[bag]), int(starts[bag]) + lengths[bag])]
    return list(columns.categorical), bags, list(columns.numeric)
