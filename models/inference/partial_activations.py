"""Shares of a first layer that is linear in x: what it makes of some columns of x alone.

The layer makes of x the sum of what it makes of parts that together are x. Which columns are an item's, the declared
views say: see `item_columns`. Letters as in models/inference/ranking.py.
"""

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.encoding.encoder import Batch, Encoder
from features.schema import Kind, Schema, View
from models.networks.cpu_kernels import wide_linear
from models.networks.feature_embedding import FeatureEmbedding
from models.networks.layers import StackedLinear


class Columns(NamedTuple):
    """Places of some columns among the categorical ones, the bags and the numbers of encoded rows."""

    categorical: tuple[int, ...]
    bags: tuple[int, ...]
    numeric: tuple[int, ...]


class Share(NamedTuple):
    """What the first layer makes of some columns of N rows: of sub-experts, `hidden` [E, N, U], and `gates` [E, N]."""

    hidden: Tensor
    gates: Tensor


def item_columns(encoder: Encoder, schema: Schema, views: Iterable[View]) -> Columns:
    """The columns that depend on the item alone: its id and those of its own view.

    Raises ValueError on features by the item and something else: no share of an item could hold them.
    """
    names, encoded = {schema.item}, {column.name for column in encoder.columns}
    for view in views:
        read = {column.name for column in view.columns} & encoded
        if read and schema.item in view.keys and len(view.keys) > 1:
            raise ValueError(f"view {view.name}: features by {view.keys} are no item's alone; score plain rows instead")
        names |= read if view.keys == (schema.item,) else set()
    categorical = [c.name for c in encoder.columns if c.kind is Kind.CATEGORICAL]
    bags = [c.name for c in encoder.columns if c.is_list]
    numeric = [c.name for c in encoder.columns if c.kind is Kind.NUMERIC for _ in range(1 + c.nullable)]
    return Columns(*(tuple(i for i, n in enumerate(part) if n in names) for part in (categorical, bags, numeric)))


class Part:
    """Some columns of x: their embedding, and the first layer's weights that read them."""

    def __init__(
        self, whole: FeatureEmbedding, columns: Columns, first: StackedLinear, gates: StackedLinear, *, biased: bool
    ) -> None:
        places = _places(whole, columns)
        weights = [layer.weight.detach()[:, :, places] for layer in (first, gates)]
        self.both = torch.cat([weight.flatten(0, 1) for weight in weights])  # [E * U + E, D of these columns]
        of_first, self.gates = self.both.split([weights[0].shape[:2].numel(), weights[1].shape[:2].numel()])
        self.weight = of_first.view_as(weights[0])  # [E, U, D of these columns]
        self.bias = detached(first)[1] if biased else None  # [E, U]
        of_all = self.both.new_zeros(len(self.both))
        self.biases = of_all if self.bias is None else torch.cat([self.bias.flatten(), of_all[self.bias.numel() :]])
        self.embedding = Embedding(whole, columns)

    def __call__(self, batch: Batch) -> Share:
        """The share of the columns of rows."""
        x = self.embedding(batch)
        return Share(wide_linear(x, self.weight, self.bias, relu=False), self.gate(x))

    def of_first(self, batch: Batch) -> Share:
        """The share, N = 1, of the first of the rows: a product of a matrix and a vector."""
        experts, units = self.weight.shape[:2]
        both = torch.addmv(self.biases, self.both, self.embedding(first_of(batch))[0])
        hidden, gates = both.tensor_split([experts * units])
        return Share(hidden.view(experts, 1, units), gates.view(experts, 1))

    def gate(self, x: Tensor) -> Tensor:
        """What the columns add to the logits of all gates [E, N]."""
        return self.gates @ x.t()


class Embedding:
    """FeatureEmbedding of some columns of encoded rows, in one lookup: every field is the mean of its ids."""

    def __init__(self, whole: FeatureEmbedding, columns: Columns) -> None:
        self.table = whole.weight.detach()
        parts = (columns.categorical, _bag_places(whole, columns), columns.numeric)
        self.categorical, self.bags, self.numeric = (np.array(part, np.int64) for part in parts)
        self.offsets = torch.cat([whole.offsets[self.categorical], whole.bag_offsets[self.bags]])  # [L]
        sizes = [1] * len(self.categorical) + [whole.bag_lengths[bag] for bag in columns.bags]
        fields = np.repeat(np.eye(len(sizes), dtype=np.float32), sizes, axis=1)
        self.fields = torch.from_numpy(fields).to(self.table)  # [fields, L]: 1 for a field's ids

    def __call__(self, batch: Batch) -> Tensor:
        """The columns of rows [N, D of these columns]; a row has L ids."""
        numeric = torch.from_numpy(batch.numeric[:, self.numeric]).to(self.table.device)
        if not len(self.fields):
            return numeric
        both = [batch.categorical[:, self.categorical], batch.bags[:, self.bags]]
        ids = torch.from_numpy(np.concatenate(both, axis=1)).to(self.table.device)  # [N, L]
        present = (ids >= 0).to(self.table.dtype)  # all but the padding of bags
        embedded = F.embedding(ids.clamp_(min=0).add_(self.offsets), self.table)  # [N, L, E]
        sums = self.fields @ embedded.mul_(present.unsqueeze(2))  # [N, fields, E]
        means = sums / (present @ self.fields.t()).clamp_(min=1).unsqueeze(2)
        return torch.cat([means.flatten(1), numeric], dim=1)


def first_of(batch: Batch) -> Batch:
    """The first of the rows, as rows."""
    return Batch(batch.categorical[:1], batch.bags[:1], batch.numeric[:1], batch.scenario[:1])


def others(whole: FeatureEmbedding, columns: Columns) -> Columns:
    """The columns that are not these."""
    fields, bags = len(whole.offsets), len(whole.bag_lengths)
    counts = (fields, bags, whole.width - (fields + bags) * whole.weight.shape[1])
    return Columns(*(tuple(i for i in range(n) if i not in taken) for n, taken in zip(counts, columns, strict=True)))


def detached(layer: StackedLinear) -> tuple[Tensor, Tensor]:
    """Weight [N, outputs, inputs] and bias [N, outputs] of a layer that has both."""
    assert layer.bias is not None
    return layer.weight.detach(), layer.bias.detach()


def _places(whole: FeatureEmbedding, columns: Columns) -> list[int]:
    """Where the columns lie in x."""
    width, fields = whole.weight.shape[1], len(whole.offsets)
    embedded = [*columns.categorical, *(fields + bag for bag in columns.bags)]
    start = (fields + len(whole.bag_lengths)) * width
    return [i * width + j for i in embedded for j in range(width)] + [start + number for number in columns.numeric]


def _bag_places(whole: FeatureEmbedding, columns: Columns) -> list[int]:
    """Where the ids of the bags lie in encoded rows."""
    ends = list(accumulate(whole.bag_lengths))
    return [place for bag in columns.bags for place in range(ends[bag] - whole.bag_lengths[bag], ends[bag])]
