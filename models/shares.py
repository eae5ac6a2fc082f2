"""Shares of a first layer that is linear in x: what it makes of some columns of x alone.

The layer makes of x the sum of what it makes of parts that together are x. Which columns are an item's, the declared
views say: see `item_columns`. Letters as in models/ranking.py.
"""

from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from features.encode import Batch, Encoder
from features.schema import Kind, Schema, View
from models.experts import FeatureEmbedding, StackedLinear
from models.products import wide


class Columns(NamedTuple):
    """Places of some columns among the categorical ones, the bags and the numbers of encoded rows."""

    categorical: tuple[int, ...]
    bags: tuple[int, ...]
    numeric: tuple[int, ...]


class Share(NamedTuple):
    """What the first layer makes of some columns of N rows: of sub-experts, `hidden` [E, N, U], and `gates` [N, E]."""

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
        self.weight = first.weight.detach()[:, :, places]  # [E, U, D of these columns]
        self.gates = gates.weight.detach()[:, :, places]  # [1 + M, K, D of these columns]
        self.bias = detached(first)[1] if biased else None  # [E, U]
        bag_places = _bag_places(whole, columns)
        self.embedding = _embedding(whole, columns, bag_places)
        used = (columns.categorical, bag_places, columns.numeric)  # of the categorical, the bags, the numbers
        self.places = [torch.tensor(part, dtype=torch.long) for part in used]

    def __call__(self, batch: Batch) -> Share:
        """The share of the columns of rows."""
        x = self.embed(batch)
        return Share(wide(x, self.weight, self.bias, rectify=False), self.gate(x))

    def embed(self, batch: Batch) -> Tensor:
        """The columns of rows [N, D of these columns]."""
        parts = zip((batch.categorical, batch.bags, batch.numeric), self.places, strict=True)
        chosen = (torch.from_numpy(part).index_select(1, places).to(self.weight.device) for part, places in parts)
        x: Tensor = self.embedding(*chosen)
        return x

    def gate(self, x: Tensor) -> Tensor:
        """What the columns add to the logits of all gates [N, E]."""
        return wide(x, self.gates, None, rectify=False).transpose(0, 1).flatten(1)


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


def _embedding(whole: FeatureEmbedding, columns: Columns, bag_places: list[int]) -> FeatureEmbedding:
    """The embedding of some of the columns: with the tables of the whole, not a copy."""
    part = FeatureEmbedding(
        table_rows=(0,), categorical_tables=[0] * len(columns.categorical), bag_tables=[0] * len(columns.bags),
        bag_lengths=[whole.bag_lengths[bag] for bag in columns.bags], numeric=len(columns.numeric),
        embedding_width=whole.weight.shape[1],
    )  # fmt: skip
    part.weight, part.offsets = whole.weight, whole.offsets[list(columns.categorical)]
    part.bag_offsets = whole.bag_offsets[bag_places]
    return part
