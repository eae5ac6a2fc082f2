"""Partial activations of HiNet's first layer: its outputs from some of the columns of x alone.

The first layer of the sub-experts and their gates are linear in x, so their outputs are the sum of the partial
activations of two sets of columns that together are x: those of the item, which can be cached per item, and those of
the user and the request. Letters as in models/inference/fused.py.
"""

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from features.encoding.encoder import Batch, Encoder
from features.engine.session_view import compared
from features.schema import Kind, Schema, View
from models.networks.cpu_kernels import wide_linear
from models.networks.feature_embedding import FeatureEmbedding
from models.networks.layers import StackedLinear


class ColumnIndices(NamedTuple):
    """Indices of some columns among the categorical columns, the bags and the numbers of encoded rows.

    The numbers of a vector are all among them, or none.
    """

    categorical: tuple[int, ...]
    bags: tuple[int, ...]
    numeric: tuple[int, ...]


class PartialActivations(NamedTuple):
    """Outputs of the first layer from some columns of N rows: of sub-experts `hidden` [E, N, U], of `gates` [E, N]."""

    hidden: Tensor
    gates: Tensor


def item_columns(encoder: Encoder, schema: Schema, views: Iterable[View]) -> ColumnIndices:
    """The columns that depend on the item alone: its id and those of the item's view.

    Raises ValueError on features by the item and another key: they have no value per item.
    """
    names, encoded = {schema.item}, {column.name for column in encoder.columns}
    for view in views:
        read = {column.name for column in view.columns} & encoded
        if read and schema.item in view.keys and len(view.keys) > 1:
            raise ValueError(
                f"view {view.name}: features by {view.keys} do not depend on the item alone; "
                "score complete rows by the network's forward instead"
            )
        names |= read if view.keys == (schema.item,) else set()
    categorical = [c.name for c in encoder.columns if c.kind is Kind.CATEGORICAL]
    bags = [c.name for c in encoder.columns if c.is_list]
    numeric = [column.name for column in encoder.numbers]
    kinds = (categorical, bags, numeric)
    return ColumnIndices(*(tuple(i for i, name in enumerate(kind) if name in names) for kind in kinds))


def pair_numbers(encoder: Encoder, views: Iterable[View]) -> tuple[int, ...]:
    """The numbers that user and item have together, as indices among those of encoded rows: what a session compares."""
    names = {name for view in views for name in compared(view)}
    return tuple(index for index, column in enumerate(encoder.numbers) if column.name in names)


def with_pairs(items: ColumnIndices, pairs: tuple[int, ...]) -> ColumnIndices:
    """The columns of the item and those of user and item together: all that are not the request's alone."""
    return items._replace(numeric=items.numeric + pairs)


def remaining_columns(embedding: FeatureEmbedding, columns: ColumnIndices) -> ColumnIndices:
    """The columns of the embedding that are not among `columns`."""
    fields, bags = len(embedding.offsets), len(embedding.bag_lengths)
    counts = (fields, bags, embedding.plain + sum(embedding.vector_widths))
    pairs = zip(counts, columns, strict=True)
    return ColumnIndices(*(tuple(i for i in range(count) if i not in taken) for count, taken in pairs))


class PartialFirstLayer:
    """The first layer of the sub-experts and the gates, as far as it reads some columns: their embedding and weights.

    `biased`: the layer's bias is included; it must be in one of the two sets of columns.
    """

    def __init__(
        self,
        embedding: FeatureEmbedding,
        columns: ColumnIndices,
        first: StackedLinear,
        gates: StackedLinear,
        *,
        biased: bool,
    ) -> None:
        positions = positions_in_x(embedding, columns)
        hidden, gate = (
            layer.weight.detach()[:, :, positions] for layer in (first, gates)
        )  # [E, U, D'], [1 + M, K, D']
        self.both = torch.cat([hidden.flatten(0, 1), gate.flatten(0, 1)])  # [E * U + E, D']
        flat, self.gates = torch.split(self.both, [hidden.shape[:2].numel(), gate.shape[:2].numel()])
        self.weight = flat.view_as(hidden)  # [E, U, D']
        self.bias = detached(first)[1] if biased else None  # [E, U]
        zeros = self.both.new_zeros(len(self.both))
        self.biases = zeros if self.bias is None else torch.cat([self.bias.flatten(), zeros[self.bias.numel() :]])
        self.embedding = ColumnEmbedding(embedding, columns)

    def __call__(self, batch: Batch) -> PartialActivations:
        """The partial activations of all rows."""
        x = self.embedding(batch)  # [N, D']
        return PartialActivations(wide_linear(x, self.weight, self.bias, relu=False), self.gate_logits(x))

    def first_row(self, batch: Batch) -> PartialActivations:
        """The partial activations, N = 1, of the first of the rows: a product of a matrix and a vector."""
        experts, units = self.weight.shape[:2]
        both = torch.addmv(self.biases, self.both, self.embedding(first_row_of(batch))[0])  # [E * U + E]
        hidden, gates = both.tensor_split([experts * units])
        return PartialActivations(hidden.view(experts, 1, units), gates.unsqueeze(1))

    def gate_logits(self, x: Tensor) -> Tensor:
        """The part of the gates' logits that the columns x [N, D'] contribute [E, N]."""
        return self.gates @ x.t()


class ColumnEmbedding:
    """FeatureEmbedding of some columns of encoded rows: a field is the mean of its ids (one lookup), or a vector's."""

    def __init__(self, embedding: FeatureEmbedding, columns: ColumnIndices) -> None:
        self.weight = embedding.weight.detach()
        kinds = (columns.categorical, _bag_positions(embedding, columns), columns.numeric)
        self.categorical, self.bags, numeric = (np.array(kind, np.int64) for kind in kinds)
        self.numeric = numeric[numeric < embedding.plain]
        spans, matrices = _vector_spans(embedding), [weight.detach() for weight in embedding.projections.parameters()]
        self.vectors = [(spans[vector], matrices[vector]) for vector in _vectors_of(embedding, columns)]
        self.offsets = torch.cat([embedding.offsets[self.categorical], embedding.bag_offsets[self.bags]])  # [L]
        sizes = [1] * len(self.categorical) + [embedding.bag_lengths[bag] for bag in columns.bags]
        fields = np.repeat(np.eye(len(sizes), dtype=np.float32), sizes, axis=1)
        self.fields = torch.from_numpy(fields).to(self.weight.device)  # [fields, L]: 1 for a field's ids

    def __call__(self, batch: Batch) -> Tensor:
        """The columns of rows [N, D']; a row has L ids."""
        numeric = self._numbers(batch, self.numeric)
        vectors = [self._numbers(batch, span) @ weight.t() for span, weight in self.vectors]  # V times [N, E]
        if not len(self.fields):
            return torch.cat([*vectors, numeric], dim=1)
        both = [batch.categorical[:, self.categorical], batch.bags[:, self.bags]]
        ids = torch.from_numpy(np.concatenate(both, axis=1)).to(self.weight.device)  # [N, L]
        present = (ids >= 0).to(numeric.dtype)  # all but the padding of bags
        embedded = F.embedding(ids.clamp_(min=0).add_(self.offsets), self.weight).to(numeric.dtype)  # [N, L, E]
        sums = self.fields @ embedded.mul_(present.unsqueeze(2))  # [N, fields, E]
        means = sums / (present @ self.fields.t()).clamp_(min=1).unsqueeze(2)  # [N, fields, E]
        return torch.cat([means.flatten(1), *vectors, numeric], dim=1)  # [N, D']

    def _numbers(self, batch: Batch, which: NDArray[np.int64] | slice) -> Tensor:
        return torch.from_numpy(batch.numeric[:, which]).to(self.weight.device)


def first_row_of(batch: Batch) -> Batch:
    """The first of the rows, as a batch of one row."""
    return Batch(batch.categorical[:1], batch.bags[:1], batch.numeric[:1], batch.scenario[:1])


def detached(layer: StackedLinear) -> tuple[Tensor, Tensor]:
    """Weight [N, outputs, inputs] and bias [N, outputs] of a layer that has both, without gradients."""
    assert layer.bias is not None
    return layer.weight.detach(), layer.bias.detach()


def positions_in_x(embedding: FeatureEmbedding, columns: ColumnIndices) -> list[int]:
    """The positions of the columns' numbers in x."""
    width, fields = embedding.weight.shape[1], len(embedding.offsets)
    bags, vectors = len(embedding.bag_lengths), len(embedding.projections)
    embedded = [*columns.categorical, *(fields + bag for bag in columns.bags)]
    embedded += [fields + bags + vector for vector in _vectors_of(embedding, columns)]
    start = (fields + bags + vectors) * width
    plain = [start + number for number in columns.numeric if number < embedding.plain]
    return [i * width + j for i in embedded for j in range(width)] + plain


def _vector_spans(embedding: FeatureEmbedding) -> list[slice]:
    """The positions of each vector's numbers among those of encoded rows."""
    ends = list(accumulate(embedding.vector_widths, initial=embedding.plain))
    return [slice(start, end) for start, end in pairwise(ends)]


def _vectors_of(embedding: FeatureEmbedding, columns: ColumnIndices) -> list[int]:
    """The indices of the vectors whose numbers are among those of `columns`."""
    return [index for index, span in enumerate(_vector_spans(embedding)) if span.start in columns.numeric]


def _bag_positions(embedding: FeatureEmbedding, columns: ColumnIndices) -> list[int]:
    """The positions of the bags' ids among those of encoded rows."""
    ends = list(accumulate(embedding.bag_lengths))
    return [index for bag in columns.bags for index in range(ends[bag] - embedding.bag_lengths[bag], ends[bag])]
