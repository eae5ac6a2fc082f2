"""Several processes divide the rows among themselves, and do together what one process does with all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.encoding.tensors import Tensors
from models.training import batches as module
from models.training.batches import BatchLoader, Draws, Share
from models.training.distributed import SINGLE_PROCESS, Group
from models.training.final_pass import fit_final
from models.training.loop import TrainingLoop, fit
from models.training.optim import Recipe
from models.training.train_state import TrainState
from tests.support.gloo import together
from tests.support.training import SCENARIOS, TASKS, opposite_rows, recipe_with, small_hinet, with_columns

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]
CPU = torch.device("cpu")
ROW_BYTES = 40  # of `opposite_rows`


class Counted:
    """A column whose rows that are read are counted."""

    def __init__(self, column: Any) -> None:
        self.column, self.nbytes, self.reads = column, column.nbytes, np.zeros(len(column), int)

    def __getitem__(self, rows: slice) -> Any:
        """The rows of a slice."""
        self.reads[rows] += 1
        return self.column[rows]


@pytest.fixture(params=["resident", "in chunks"])
def resident_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of 103 rows all fit, or 30, in blocks of 10."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 10)
    return (1000 if request.param == "resident" else 30) * ROW_BYTES


def shares_of(rows: Tensors, resident_bytes: int, group: Group, **options: Any) -> tuple[BatchLoader, list[Share]]:
    """The loader of a process, and its shares of an epoch of batches of 16."""
    loader = BatchLoader(rows, CPU, resident_bytes, group=group, **options)
    return loader, list(loader.shares(16, torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("size", [2, 3, 5, 40])
def test_the_processes_read_every_row_once(resident_bytes: int, size: int) -> None:
    """No row is read by two processes, but the one that a process without rows of a chunk takes part with."""
    rows, reads = opposite_rows(103, 0), np.zeros(103, int)
    for rank in range(size):
        loader = BatchLoader(rows, CPU, resident_bytes, group=Group(rank, size))
        loader.columns = [Counted(column) for column in loader.columns]
        assert len(list(loader.shares(16, torch.Generator().manual_seed(3)))) >= 7
        reads += loader.columns[0].reads
    assert reads.min() == 1
    assert reads.max() == 1 or size == 40  # more processes than rows in the last chunk


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("size", [2, 3, 5, 40])
def test_the_shares_are_the_batch(resident_bytes: int, size: int, even: bool) -> None:
    """The processes' rows of a batch are those of one process, at the indices they have there, once each."""
    rows = opposite_rows(103, 0)
    _, whole = shares_of(rows, resident_bytes, SINGLE_PROCESS)
    parts = [shares_of(rows, resident_bytes, Group(rank, size), even=even)[1] for rank in range(size)]
    for batch, *shares in zip(whole, *parts, strict=True):
        counted = [share for share in shares if share.share]
        indices = torch.cat([share.indices for share in counted])
        assert indices.sort().values.tolist() == list(range(batch.batch_rows))
        numeric = torch.cat([share.rows.numeric for share in counted])
        assert torch.equal(numeric, batch.rows.numeric[indices])
        assert sum(share.share for share in shares) == pytest.approx(1)
        assert all(len(share.rows.scenario) for share in shares)
        if even:
            assert np.ptp([share.share * batch.batch_rows for share in shares]) <= 1


def test_a_share_draws_the_numbers_of_the_batch() -> None:
    """Each row is masked as by one process, whichever process has it."""
    rows = opposite_rows(103, 0)
    (_, (whole, *_)) = shares_of(rows, 1 << 20, SINGLE_PROCESS)
    expected = whole.rows.mask_ids(0.3, Draws(torch.Generator().manual_seed(5), whole))
    for rank in range(3):
        (_, (share, *_)) = shares_of(rows, 1 << 20, Group(rank, 3))
        masked = share.rows.mask_ids(0.3, Draws(torch.Generator().manual_seed(5), share))
        assert torch.equal(masked.categorical, expected.categorical[share.indices])
        assert torch.equal(masked.bags, expected.bags[share.indices])


def weighted(rows: int, seed: int) -> Tensors:
    """`opposite_rows` with weights."""
    weight = np.random.default_rng(seed).exponential(size=rows).astype(np.float32)
    return with_columns(opposite_rows(rows, seed), weight=weight)


def gradients_of(rows: Tensors, group: Group, *, sparse: bool) -> list[Tensor]:
    """The loss of the first batch and the gradients that a step of it has."""
    recipe = recipe_with(sparse_embeddings=sparse, batch_size=16)
    loop = TrainingLoop(TrainState(small_hinet(), recipe, CPU), torch.ones(2, 2), None, group)
    share = next(BatchLoader(rows, CPU, group=group).shares(16, torch.Generator().manual_seed(3)))
    loss = loop.step(share.rows, share.share)
    gradients = [parameter.grad for parameter in loop.parameters if parameter.grad is not None]
    return [loss, *(gradient.to_dense() if gradient.is_sparse else gradient for gradient in gradients)]


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("make", [opposite_rows, weighted], ids=["plain", "weighted"])
def test_the_gradients_add_up_to_those_of_the_batch(tmp_path: Path, make: Any, sparse: bool) -> None:
    """In three processes, one of which has hardly a row: the sum in each is the gradient of one process."""
    rows = make(17, 0)
    expected = gradients_of(rows, SINGLE_PROCESS, sparse=sparse)
    for gradients in together(3, tmp_path, lambda group: gradients_of(rows, group, sparse=sparse)):
        for own, other in zip(gradients, expected, strict=True):
            torch.testing.assert_close(own, other)


def test_an_empty_share_touches_no_row_of_a_sparse_table(tmp_path: Path) -> None:
    """The row with which a process without rows takes part is no row of the batch: its ids are not moved."""
    rows = opposite_rows(1, 0)
    expected = gradients_of(rows, SINGLE_PROCESS, sparse=True)

    def touched(group: Group) -> list[int]:
        recipe = recipe_with(sparse_embeddings=True, batch_size=16)
        loop = TrainingLoop(TrainState(small_hinet(), recipe, CPU), torch.ones(2, 2), None, group)
        own = rows if group.rank == 1 else with_columns(rows, categorical=np.array([[3, 2]], np.int32))
        share = next(BatchLoader(own, CPU, group=group).shares(16, torch.Generator()))
        loop.step(share.rows, share.share)
        (gradient,) = (p.grad for p in loop.parameters if p.grad is not None and p.grad.is_sparse)
        return sorted(gradient.indices()[0].tolist())

    ids = expected[1].abs().sum(dim=1).nonzero().flatten().tolist()
    first, second = together(2, tmp_path, touched)
    assert first == second
    assert set(ids) <= set(first) <= {*ids, 0}  # 0: padding of a bag


RECIPES = {
    "dense": {},
    "sparse": {"sparse_embeddings": True},
    "all at once": {
        "sparse_embeddings": True,
        "rare_id_rows": 5.0,
        "clip_gradient_norm": 0.5,
        "unknown_share": 0.1,
        "final_learning_rate": 0.001,
    },
}


def weights_after(recipe: Recipe, group: Group) -> tuple[Tensor, list[float]]:
    """All weights after a fit and its last pass, and the validation means of its epochs."""
    network, run = small_hinet(), {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu", "group": group}
    rows, valid = weighted(1000, 0), weighted(600, 1)
    result = fit(network, rows, valid, recipe, **run)
    fit_final(result, rows, valid, recipe, **run)
    weights = torch.cat([weights.flatten() for weights in network.state_dict().values()])
    return weights, [epoch.valid_mean for epoch in result.epochs]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [2, 3])
def test_a_fit_of_several_processes_is_that_of_one(tmp_path: Path, name: str, size: int) -> None:
    """The weights are equal within rounding, and the same bits in all processes."""
    recipe = recipe_with(embedding_weight_decay=1e-3, **RECIPES[name])
    expected, means = weights_after(recipe, SINGLE_PROCESS)
    results = together(size, tmp_path, lambda group: weights_after(recipe, group))
    for weights, epochs in results:
        torch.testing.assert_close(weights, expected, rtol=1e-3, atol=1e-4)
        assert epochs == pytest.approx(means, abs=1e-4)
        assert torch.equal(weights, results[0][0])
