"""models/training/rare_ids.py: rare ids are masked more often than frequent ones."""

import doctest

import numpy as np
import pytest
import torch

from models.training import rare_ids
from models.training.batches import Draws, TensorBatch
from models.training.rare_ids import RareIds

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


def batch_of(ids: torch.Tensor) -> TensorBatch:
    """Rows with these ids and nothing else."""
    empty = torch.empty(len(ids), 0)
    return TensorBatch(ids, empty, empty, torch.zeros(len(ids)), empty, empty, empty)


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation gives what it says."""
    assert doctest.testmod(rare_ids).failed == 0


def test_an_id_is_masked_by_its_rows_in_its_own_column() -> None:
    """With k = 5: an id of 5 rows in half of the steps, one of 95 in a twentieth; the same id elsewhere by its own."""
    first = np.repeat([1, 2], [5, 95])
    second = np.repeat([2, 1], [5, 95])
    mask = RareIds(np.stack([first, second], axis=1), rows=5, device=CPU)
    ids = torch.tensor([[1, 1], [2, 2]]).repeat(20_000, 1)
    masked = mask.mask(batch_of(ids), Draws(torch.Generator().manual_seed(0))).categorical
    share = (masked == 0).float().view(-1, 2, 2).mean(dim=0)
    torch.testing.assert_close(share, torch.tensor([[0.5, 0.05], [0.05, 0.5]]), atol=0.01, rtol=0)
    assert set(masked[masked != ids].tolist()) == {0}


def test_unknown_ids_stay_and_rows_without_ids_pass() -> None:
    """The unknown id is masked already; a data set without categorical columns has nothing to mask."""
    mask = RareIds(np.zeros((10, 1), dtype=np.int32), rows=5, device=CPU)
    assert not mask.mask(batch_of(torch.zeros(4, 1).int()), Draws(torch.Generator())).categorical.any()
    none = RareIds(np.empty((10, 0), dtype=np.int32), rows=5, device=CPU)
    assert none.mask(batch_of(torch.empty(4, 0).int()), Draws(torch.Generator())).categorical.shape == (4, 0)
