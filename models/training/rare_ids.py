"""Rare ids are masked more often than frequent ones, so that the network does not learn them by heart.

The embedding of an id with few training rows fits the noise of their labels; a network that reads the features of the
row instead ranks better. Masked ids also train the unknown row, by which the ids of tomorrow are read.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.encoding.tensors import Tensors
from models.training.batches import Draws, TensorBatch


class RareIds:
    """Masks an id that n training rows have in its column with the probability `rows` / (`rows` + n).

    >>> ids = np.array([[1], [1], [1], [2]], dtype=np.int32)
    >>> RareIds(ids, rows=3, device=torch.device("cpu")).share.tolist()
    [0.0, 0.5, 0.75]
    """

    def __init__(self, ids: NDArray[Any], *, rows: float, device: torch.device) -> None:
        """`ids` [N, F] are those of the training rows."""
        counts = [np.bincount(column) for column in ids.T]
        starts = np.cumsum([0, *(len(count) for count in counts)])[:-1]
        share = [rows / (rows + count) for count in counts]
        for unknown in share:
            unknown[:1] = 0
        self.share = torch.from_numpy(np.concatenate([np.empty(0), *share]).astype(np.float32)).to(device)
        self.starts = torch.from_numpy(starts).to(device)

    def mask(self, batch: TensorBatch, draws: Draws) -> TensorBatch:
        """Training rows -> the same rows, some of their ids 0, which is unknown; bags keep theirs."""
        share = self.share[batch.categorical + self.starts]  # [B, F]
        masked = draws.uniform(share.shape, share.device) < share
        return batch._replace(categorical=batch.categorical.masked_fill(masked, 0))


def rare_ids(train: Tensors, rows: float, device: torch.device) -> RareIds | None:
    """The mask for the training rows; None where `rows` is 0: no id is masked for being rare."""
    return RareIds(np.asarray(train.categorical), rows=rows, device=device) if rows else None
