"""Encoded rows on their way to the device: resident where they fit, block by block from disk where they do not."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from features.encoding.tensors import Tensors

RESIDENT_BYTES = 1 << 30  # rows up to this size stay on the device; more are read in chunks of this size
BLOCK_ROWS = 4096  # neighbours that are read together when the rows do not fit
SCORE_ROWS = 8192  # rows of a batch where no gradient is needed


class Part(NamedTuple):
    """Some rows as tensors: ids [B, F], bag ids [B, L], numbers [B, P], scenarios [B], labels [B, T]."""

    categorical: Tensor
    bags: Tensor
    numeric: Tensor
    scenario: Tensor
    labels: Tensor

    def pick(self, rows: Tensor) -> "Part":
        """The rows with these positions."""
        return Part(*(column.index_select(0, rows) for column in self))

    def hide(self, share: float, generator: torch.Generator) -> "Part":
        """The same rows with a random share of the ids replaced by row 0, the unknown row of each table."""
        if not share:
            return self
        return self._replace(
            categorical=_hide(self.categorical, share, generator), bags=_hide(self.bags, share, generator)
        )


class Rows:
    """Encoded rows on their way to the device.

    What is smaller than `resident_bytes` is loaded once and shuffled as a whole. More is read in chunks of that
    size, each made of blocks of BLOCK_ROWS neighbours drawn from the whole set and shuffled inside: memory does
    not grow with the rows, and every row still comes once per epoch.
    """

    def __init__(self, tensors: Tensors, device: torch.device, resident_bytes: int = RESIDENT_BYTES) -> None:
        self.columns = [getattr(tensors, name) for name in Part._fields]
        self.count, self.device = len(tensors.scenario), device
        row_bytes = sum(column.nbytes for column in self.columns) // max(self.count, 1)
        self.blocks_at_once = max(1, resident_bytes // (BLOCK_ROWS * max(row_bytes, 1)))
        fits = self.count <= self.blocks_at_once * BLOCK_ROWS
        self.resident = self._load([slice(0, self.count)]) if fits else None

    def shuffled(self, batch_size: int, generator: torch.Generator, skip: int = 0) -> Iterator[Part]:
        """Every row once, in an order drawn from `generator` (a CPU generator), in batches.

        The first `skip` batches are drawn but neither read nor given: a run goes on where it was stopped.
        """
        for blocks in self._chunks(generator):
            rows = sum(block.stop - block.start for block in blocks)
            batches = torch.randperm(rows, generator=generator).to(self.device).split(batch_size)
            if skip < len(batches):
                chunk = self._load(blocks) if self.resident is None else self.resident
                for batch in batches[skip:]:
                    yield chunk.pick(batch)
            skip = max(0, skip - len(batches))

    def in_order(self) -> Iterator[Part]:
        """Every row once, as they lie."""
        for start in range(0, self.count, SCORE_ROWS):
            part = slice(start, start + SCORE_ROWS)
            yield Part(*(column[part] for column in self.resident)) if self.resident else self._load([part])

    def _chunks(self, generator: torch.Generator) -> Iterator[list[slice]]:
        """The rows of each chunk: all of them, or blocks of neighbours in an order drawn from `generator`."""
        if self.resident is not None:
            yield [slice(0, self.count)]
            return
        starts = torch.randperm(-(-self.count // BLOCK_ROWS), generator=generator) * BLOCK_ROWS
        for group in starts.split(self.blocks_at_once):
            yield [slice(start, min(start + BLOCK_ROWS, self.count)) for start in group.tolist()]

    def _load(self, parts: list[slice]) -> Part:
        arrays = (np.concatenate([column[part] for part in parts]) for column in self.columns)
        return Part(*(torch.from_numpy(array).to(self.device) for array in arrays))


def _hide(ids: Tensor, share: float, generator: torch.Generator) -> Tensor:
    hidden = torch.rand(ids.shape, generator=generator, device=ids.device) < share
    return ids.masked_fill(hidden & (ids > 0), 0)  # padding (-1) stays padding
