"""Batches of encoded rows on the device of the training: resident where the rows fit, else read chunk by chunk."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.encoding.tensors import Tensors

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

    def mask_ids(self, share: float, generator: torch.Generator) -> "TensorBatch":
        """The same rows with a random share of the ids replaced by 0, the unknown id of each embedding table."""
        if not share:
            return self
        return self._replace(
            categorical=_mask(self.categorical, share, generator), bags=_mask(self.bags, share, generator)
        )


class BatchLoader:
    """Encoded rows in batches on the device.

    Rows of up to `resident_bytes` are loaded once and shuffled as a whole. More are read in chunks of that size, each
    made of blocks of BLOCK_ROWS adjacent rows, drawn from the whole set and shuffled inside: memory does not grow with
    the rows, and an epoch still contains every row once.
    """

    def __init__(self, tensors: Tensors, device: torch.device, resident_bytes: int = RESIDENT_BYTES) -> None:
        columns = {name: getattr(tensors, name) for name in TensorBatch._fields}
        columns |= {"position": _positions(tensors), "weight": _weights(tensors)}
        self.columns = list(columns.values())
        self.count, self.device = len(tensors.scenario), device
        row_bytes = sum(column.nbytes for column in self.columns) // max(self.count, 1)
        self.blocks_per_chunk = max(1, resident_bytes // (BLOCK_ROWS * max(row_bytes, 1)))
        fits = self.count <= self.blocks_per_chunk * BLOCK_ROWS
        self.resident = self._load([slice(0, self.count)]) if fits else None

    def shuffled(self, batch_size: int, generator: torch.Generator, skip: int = 0) -> Iterator[TensorBatch]:
        """Every row once, in batches, in an order drawn from `generator` (a CPU generator).

        The first `skip` batches are drawn but neither read nor returned: a run resumes where it was stopped.
        """
        for blocks in self._chunks(generator):
            rows = sum(block.stop - block.start for block in blocks)
            batches = torch.split(torch.randperm(rows, generator=generator).to(self.device), batch_size)
            if skip < len(batches):
                chunk = self._load(blocks) if self.resident is None else self.resident
                for batch in batches[skip:]:
                    yield chunk.select(batch)
            skip = max(0, skip - len(batches))

    def in_order(self) -> Iterator[TensorBatch]:
        """Every row once, in the order of the files, in batches of SCORE_ROWS."""
        for start in range(0, self.count, SCORE_ROWS):
            rows = slice(start, start + SCORE_ROWS)
            yield TensorBatch(*(column[rows] for column in self.resident)) if self.resident else self._load([rows])

    def _chunks(self, generator: torch.Generator) -> Iterator[list[slice]]:
        """The rows of each chunk: all rows, or blocks of adjacent rows in an order drawn from `generator`."""
        if self.resident is not None:
            yield [slice(0, self.count)]
            return
        starts = torch.randperm(-(-self.count // BLOCK_ROWS), generator=generator) * BLOCK_ROWS
        for group in torch.split(starts, self.blocks_per_chunk):
            yield [slice(start, min(start + BLOCK_ROWS, self.count)) for start in group.tolist()]

    def _load(self, slices: list[slice]) -> TensorBatch:
        arrays = (np.concatenate([column[rows] for rows in slices]) for column in self.columns)
        return TensorBatch(*(torch.from_numpy(array).to(self.device) for array in arrays))


def _weights(tensors: Tensors) -> NDArray[np.float32]:
    """The weights [N, 1], or nothing [N, 0]."""
    weight = tensors.weight
    return np.empty((len(tensors.scenario), 0), np.float32) if weight is None else weight[:, None]


def _positions(tensors: Tensors) -> NDArray[np.int32]:
    """The positions [N, 1], or nothing [N, 0]."""
    position = tensors.position
    return np.empty((len(tensors.scenario), 0), np.int32) if position is None else position[:, None]


def _mask(ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
    masked = torch.rand(ids.shape, generator=generator, device=ids.device) < share
    return ids.masked_fill(masked & (ids > 0), 0)  # padding (-1) stays padding
