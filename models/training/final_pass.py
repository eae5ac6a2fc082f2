"""A last pass over the training and the validation rows, at a lower learning rate.

The validation rows choose the epoch. Then they have served their purpose, and are the newest labels there are: the
network learns from them too, in one more pass over all rows, from the weights of the chosen epoch on. There is nothing
left to choose by, so the pass has a fixed length; its lower learning rate averages over more batches.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.encoding.tensors import Tensors
from models.training.loop import FitResult, fit
from models.training.optim import Recipe


def fit_final(result: FitResult, train: Tensors, valid: Tensors, recipe: Recipe, **run: Any) -> None:
    """Train the network of `result` in one pass over the training and validation rows, if the recipe has one.

    It ends on the averaged weights of the pass. `run` are the other arguments of `fit`; a checkpoint must be another.
    """
    if recipe.final_learning_rate:
        once = dataclasses.replace(recipe, epochs=1, learning_rate=recipe.final_learning_rate)
        fit(result.trained, concatenate(train, valid), valid, once, **run)


def concatenate(first: Tensors, second: Tensors) -> Tensors:
    """The rows of both to be trained on, read where they are: nothing is copied before a batch is.

    Codes of users and choice sets, which mean something within their own rows only, are not to be used.
    """
    columns = {
        name: None if column is None or name == "choice_set" else ChainedColumn(column, getattr(second, name))
        for name, column in vars(first).items()
    }
    return Tensors(**columns)  # type: ignore[arg-type]


class ChainedColumn:
    """Two arrays [N, ..] and [M, ..] read as one [N + M, ..], slice by slice."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self.parts, self.dtype = (first, second), first.dtype
        self.shape = (len(first) + len(second), *first.shape[1:])

    @property
    def nbytes(self) -> int:
        """The bytes of both."""
        return sum(part.nbytes for part in self.parts)

    def __len__(self) -> int:
        """N + M."""
        return len(self.parts[0]) + len(self.parts[1])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """The rows of a slice; any other index is that of the whole array in memory."""
        if not isinstance(rows, slice):
            others: NDArray[Any] = np.asarray(self)[rows]
            return others
        start, stop, _ = rows.indices(len(self))  # no reader takes every second row
        before = len(self.parts[0])
        second = slice(max(start - before, 0), max(stop - before, 0))
        return np.concatenate((self.parts[0][start:stop], self.parts[1][second]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All rows in memory."""
        return np.concatenate(self.parts).astype(dtype or self.dtype, copy=False)
