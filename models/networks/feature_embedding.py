"""The features of a row side by side: embedded ids, means of bags of ids, projected vectors, numbers.

Letters: B rows, F categorical columns, L ids of all bags, P numbers, V vectors, E embedding width, D width of a row's
features.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.data_spec import DataSpec
from models.networks.interactions import CrossLayer
from models.networks.neighbours import Neighbours

Lookup = Callable[[Tensor, Tensor], Tensor]  # ids [B, C] and rows of a table -> [B, C, E]
INITIAL_DEVIATION = 0.05  # of the embeddings; the unit deviation of nn.Embedding drowns the numbers


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the configs of all networks have in common.

    Args:
        embedding_width: E, the width of an embedded id.
        neighbours: the number of outcomes that a training row can have, 0: off. See Neighbours; the user and the item
            are then the first two categorical columns.
        interactions: terms of x that are added to the logits: fm.
        cross_rank: rank of a CrossLayer between the features and everything that reads them, 0: off.
    """

    embedding_width: int
    neighbours: int = 0
    interactions: Sequence[str] = ()
    cross_rank: int = 0


class FeatureEmbedding(nn.Module):
    """A row's features side by side: embedded ids, the mean of each bag of ids, each vector times a matrix, numbers.

    All embedding tables lie in one `weight` [rows of all tables, E], so that all ids of a batch are one lookup. A bag
    without ids is zeros. A vector becomes a field of width E as well, by a product without a constant: the mean vector
    is zeros, a missing one the matrix's last column. With `neighbours` two more fields follow these: those of the user
    and the item. The `weight` of a trained network may be bfloat16 (train.embedding_precision); x is float32.

    >>> data = DataSpec(table_rows=(5, 7), categorical_tables=(0, 1, 1), bag_tables=(1,), bag_lengths=(2,), numeric=2,
    ...                 scenarios=1, task_outputs=(1,))
    >>> embed = FeatureEmbedding(data, NetworkConfig(embedding_width=4))
    >>> embed(torch.tensor([[4, 0, 6]]), torch.tensor([[3, -1]]), torch.zeros(1, 2)).shape
    torch.Size([1, 18])
    """

    offsets: Tensor
    bag_offsets: Tensor

    def __init__(self, data: DataSpec, config: NetworkConfig) -> None:
        super().__init__()
        starts, width = [0, *accumulate(data.table_rows)], config.embedding_width
        self.bag_lengths, self.sparse = list(data.bag_lengths), False  # see models/networks/sparse_embeddings.py
        self.lookup: Lookup | None = None  # where `weight` has some of the rows: models/training/sharded_tables.py
        embedded, self.plain = len(data.categorical_tables) + len(data.bag_lengths), data.numeric - sum(data.vectors)
        self.vector_widths = list(data.vectors)
        self.fields = embedded + len(data.vectors) + (2 if config.neighbours else 0)
        self.width = self.fields * width + self.plain
        self.weight = nn.Parameter(torch.randn(starts[-1], width) * INITIAL_DEVIATION)
        offsets = [starts[table] for table in data.categorical_tables]
        bags = zip(data.bag_tables, data.bag_lengths, strict=True)
        bag_offsets = [starts[table] for table, length in bags for _ in range(length)]
        self.register_buffer("offsets", _int32(offsets), persistent=False)
        self.register_buffer("bag_offsets", _int32(bag_offsets), persistent=False)
        self.projections = nn.ModuleList(nn.Linear(length, width, bias=False) for length in data.vectors)
        self.neighbours: Neighbours | None = None
        if config.neighbours:
            users, items = (data.table_rows[table] for table in data.categorical_tables[:2])
            self.neighbours = Neighbours(users=users, items=items, outcomes=config.neighbours, width=width)
        self.cross = CrossLayer(width=self.width, rank=config.cross_rank) if config.cross_rank else None

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor) -> Tensor:
        """Ids [B, F] in their tables, bag ids [B, L] padded with -1, numbers [B, P] -> [B, D]."""
        ids = torch.cat([categorical + self.offsets, bags.clamp(min=0) + self.bag_offsets], dim=1)  # [B, F + L]
        if self.lookup is None:
            embedded = F.embedding(ids, self.weight, sparse=self.sparse)  # [B, F + L, E]
        else:
            embedded = self.lookup(ids, self.weight)
        embedded = embedded.to(numeric.dtype)
        single, several = embedded.tensor_split([categorical.shape[1]], dim=1)  # [B, F, E], [B, L, E]
        numeric, *vectors = self.split_numbers(numeric)
        fields = [single.flatten(1), *self._means(several, bags >= 0)]
        fields += [project(vector) for project, vector in zip(self.projections, vectors, strict=True)]  # V times [B, E]
        if self.neighbours is not None:
            fields.append(self.neighbours(categorical[:, 0], categorical[:, 1]))  # [B, 2E]
        x = torch.cat([*fields, numeric], dim=1)  # [B, D]
        return x if self.cross is None else self.cross(x)

    def split_numbers(self, numeric: Tensor) -> tuple[Tensor, ...]:
        """The numbers [B, P] as those that are no vector's, and each vector."""
        return torch.split(numeric, [self.plain, *self.vector_widths], dim=1)

    def _means(self, embedded: Tensor, present: Tensor) -> list[Tensor]:
        """The mean [B, E] of each bag over its ids [B, L, E] that are `present` [B, L]."""
        if not self.bag_lengths:  # a split into nothing can be exported, but not read again
            return []
        masked = embedded * present.unsqueeze(2)  # [B, L, E]
        bags = zip(torch.split(masked, self.bag_lengths, 1), torch.split(present, self.bag_lengths, 1), strict=True)
        return [ids.sum(dim=1) / there.sum(dim=1, keepdim=True).clamp(min=1) for ids, there in bags]


def _int32(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int32)
