"""Batches of encoded rows on the device of the training: resident where the rows fit, else read chunk by chunk.

Of several processes each reads its own part of the rows: of a batch, whose rows are those of one process, it has those
that lie in its part. So its share differs a little from batch to batch, and no row is read twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.encoding.tensors import Tensors
from models.training.distributed import SINGLE_PROCESS, Group

RESIDENT_BYTES = 1 << 30  # rows up to this size stay on the device; more are read in chunks of this size
BLOCK_ROWS = 4096  # adjacent rows that are read together when the rows do not fit
SCORE_ROWS = 8192  # rows of a batch where no gradient is needed


class TensorBatch(NamedTuple):
    """Rows as tensors: ids [B, F], bag ids [B, L], numbers [B, P], scenarios [B], labels [B, T].

    Positions are [B, 1], or [B, 0] where the rows have none; weights [B, W] likewise, W is 1 or 0.
    """

    categorical: Tensor
    bags: Tensor
    numeric: Tensor
    scenario: Tensor
    labels: Tensor
    position: Tensor
    weight: Tensor

    def select(self, rows: Tensor) -> "TensorBatch":
        """The rows with these indices."""
        return TensorBatch(*(column.index_select(0, rows) for column in self))

    def mask_ids(self, share: float, draws: "Draws") -> "TensorBatch":
        """The same rows with a random share of the ids replaced by 0, the unknown id of each embedding table."""
        if not share:
            return self
        return self._replace(categorical=_mask(self.categorical, share, draws), bags=_mask(self.bags, share, draws))


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one process has.

    A process without rows in a batch has one with share 0 and weight 0: every process takes part in every sum.

    Args:
        rows: the rows.
        share: the part of the batch that they are, 0 to 1.
        batch_rows: the number of rows of the whole batch.
        indices: of the rows in the whole batch; None: they are all of it.
    """

    rows: TensorBatch
    share: float
    batch_rows: int
    indices: Tensor | None = None


class Draws:
    """Random numbers for the rows of a share: those that one process draws for them, with all rows of the batch."""

    def __init__(self, generator: torch.Generator, share: Share | None = None) -> None:
        self.generator, self.share = generator, share

    def uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Numbers between 0 and 1 for rows of this shape [B, ..]."""
        if self.share is None or self.share.indices is None:
            return torch.rand(shape, generator=self.generator, device=device)
        whole = torch.rand((self.share.batch_rows, *shape[1:]), generator=self.generator, device=device)
        return whole.index_select(0, self.share.indices)


class BatchLoader:
    """Encoded rows in batches on the device.

    Rows of up to `resident_bytes` are loaded once and shuffled as a whole. More are read in chunks of that size, each
    made of blocks of BLOCK_ROWS adjacent rows, drawn from the whole set and shuffled inside: memory does not grow with
    the rows, and an epoch still contains every row once. The order is the same for any number of processes.
    """

    def __init__(
        self,
        tensors: Tensors,
        device: torch.device,
        resident_bytes: int = RESIDENT_BYTES,
        *,
        group: Group = SINGLE_PROCESS,
        even: bool = False,
    ) -> None:
        """Prepare the rows.

        Args:
            tensors: the rows.
            device: where the batches are.
            resident_bytes: bytes of the rows up to which they are loaded once.
            group: the processes that share the batches.
            even: the shares of a full batch never change their size, as a captured step needs it; then every process
                reads all rows.
        """
        columns = {name: getattr(tensors, name) for name in TensorBatch._fields}
        columns |= {"position": _positions(tensors), "weight": _weights(tensors)}
        self.columns = list(columns.values())
        self.count, self.device = len(tensors.scenario), device
        row_bytes = sum(column.nbytes for column in self.columns) // max(self.count, 1)
        self.blocks_per_chunk = max(1, resident_bytes // (BLOCK_ROWS * max(row_bytes, 1)))
        self.fits = self.count <= self.blocks_per_chunk * BLOCK_ROWS
        self.group, self.even = group, even

    @cached_property
    def resident(self) -> TensorBatch | None:
        """The rows of this process, if all rows fit; they are loaded when they are first used."""
        return self._load(_cut([slice(0, self.count)], *self._part(self.count))) if self.fits else None

    def shuffled(self, batch_size: int, generator: torch.Generator, skip: int = 0) -> Iterator[TensorBatch]:
        """Every row of this process once, in batches: the rows of `shares`."""
        return (share.rows for share in self.shares(batch_size, generator, skip))

    def shares(self, batch_size: int, generator: torch.Generator, skip: int = 0) -> Iterator[Share]:
        """The shares of this process, of batches with every row once, in an order drawn from a CPU generator.

        The first `skip` batches are drawn but neither read nor returned: a run resumes where it was stopped.
        """
        for blocks in self._chunks(generator):
            rows = sum(block.stop - block.start for block in blocks)
            order = torch.randperm(rows, generator=generator)
            batches = torch.split(order.to(self.device) if self.group.size == 1 else order, batch_size)
            if skip < len(batches):
                part = self._part(rows)
                chunk = self._load(_cut(blocks, *part)) if self.resident is None else self.resident
                for batch in batches[skip:]:
                    yield self._share(chunk, batch, part)
            skip = max(0, skip - len(batches))

    def in_order(self) -> Iterator[TensorBatch]:
        """Every row of this process once, in the order of the files, in batches of SCORE_ROWS."""
        return (self.read(rows) for rows in self.parts())

    def parts(self) -> list[slice]:
        """The batches of SCORE_ROWS rows, in the order of the files, that this process scores.

        All processes have as many of them: the last one can be empty.
        """
        starts = range(0, self.count, SCORE_ROWS)
        padded = [*starts, *[self.count] * (-len(starts) % self.group.size)][self.group.rank :: self.group.size]
        return [slice(start, min(start + SCORE_ROWS, self.count)) for start in padded]

    def read(self, rows: slice) -> TensorBatch:
        """These rows, in the order of the files."""
        if self.group.size == 1 and self.resident is not None:
            return TensorBatch(*(column[rows] for column in self.resident))
        return self._load([rows])

    def column(self, name: str) -> Tensor:
        """All rows of a column, those of other processes too."""
        number = TensorBatch._fields.index(name)
        if self.group.size == 1 and self.resident is not None:
            return self.resident[number]
        return torch.from_numpy(np.array(self.columns[number])).to(self.device)

    def _part(self, rows: int) -> tuple[int, int]:
        """The first of so many rows that is this process's, and the first behind them."""
        if self.even:
            return 0, rows
        return self.group.cut(rows)

    def _share(self, chunk: TensorBatch, batch: Tensor, part: tuple[int, int]) -> Share:
        """The share of a batch: `batch` are its rows in the chunk, of which this process has loaded a part."""
        whole = len(batch)
        if self.group.size == 1:
            return Share(chunk.select(batch), 1.0, whole)
        if self.even:
            indices = torch.arange(*self.group.cut(whole))
        else:
            indices = ((batch >= part[0]) & (batch < part[1])).nonzero().flatten()
        if len(indices):
            rows = chunk.select((batch[indices] - part[0]).to(self.device))
            return Share(rows, len(indices) / whole, whole, indices.to(self.device))
        none = torch.zeros(1, dtype=torch.int64, device=self.device)
        row = chunk.select(none)
        return Share(row._replace(weight=torch.zeros_like(row.weight)), 0.0, whole, none)

    def _chunks(self, generator: torch.Generator) -> Iterator[list[slice]]:
        """The rows of each chunk: all rows, or blocks of adjacent rows in an order drawn from `generator`."""
        if self.fits:
            yield [slice(0, self.count)]
            return
        starts = torch.randperm(-(-self.count // BLOCK_ROWS), generator=generator) * BLOCK_ROWS
        for group in torch.split(starts, self.blocks_per_chunk):
            yield [slice(start, min(start + BLOCK_ROWS, self.count)) for start in group.tolist()]

    def _load(self, slices: list[slice]) -> TensorBatch:
        arrays = (np.concatenate([column[rows] for rows in slices]) for column in self.columns)
        return TensorBatch(*(torch.from_numpy(array).to(self.device) for array in arrays))


def _cut(blocks: Sequence[slice], first: int, end: int) -> list[slice]:
    """The rows `first` to before `end` of blocks of rows, counted over all of them; at least one row."""
    cut, start = [], 0
    for block in blocks:
        rows = block.stop - block.start
        low, high = max(first - start, 0), min(max(end, first + 1) - start, rows)
        if low < high:
            cut.append(slice(block.start + low, block.start + high))
        start += rows
    return cut


def _weights(tensors: Tensors) -> NDArray[np.float32]:
    """The weights [N, 1], or nothing [N, 0]."""
    weight = tensors.weight
    return np.empty((len(tensors.scenario), 0), np.float32) if weight is None else weight[:, None]


def _positions(tensors: Tensors) -> NDArray[np.int32]:
    """The positions [N, 1], or nothing [N, 0]."""
    position = tensors.position
    return np.empty((len(tensors.scenario), 0), np.int32) if position is None else position[:, None]


def _mask(ids: Tensor, share: float, draws: Draws) -> Tensor:
    masked = draws.uniform(ids.shape, ids.device) < share
    return ids.masked_fill(masked & (ids > 0), 0)  # padding (-1) stays padding
