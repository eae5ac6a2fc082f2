"""Sparse embeddings: a step updates the rows of its batch and nothing else; averages miss no step."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.networks.sparse_embeddings import clip_gradients, embeddings_of
from models.training.batches import BatchLoader, TensorBatch
from models.training.train_state import TrainState
from models.training.weight_average import WeightAverage
from tests.support.training import fitted, opposite_rows, recipe_with, small_hinet

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]
SPARSE = recipe_with(sparse_embeddings=True, embedding_weight_decay=1e-3)


def hundred_rows() -> TensorBatch:
    """The first 100 of `opposite_rows`."""
    rows = BatchLoader(opposite_rows(100, 0), torch.device("cpu")).resident
    assert rows is not None
    return rows


def step(state: TrainState, rows: slice) -> None:
    """One step of the state on these of the hundred rows."""
    state.network.zero_grad()
    categorical, bags, numeric, scenario = (column[rows] for column in hundred_rows()[:4])
    state.network(categorical, bags, numeric, scenario).square().sum().backward()
    state.optimizer_step()


def stepped(recipe: Any, rows: slice) -> tuple[TrainState, torch.Tensor]:
    """A state after one step on these rows, and its embedding before the step."""
    state = TrainState(small_hinet(), recipe, torch.device("cpu"))
    before = embeddings_of(state.network)[0].detach().clone()
    step(state, rows)
    return state, before


def test_only_rows_of_the_batch_are_updated() -> None:
    """A step on one row updates the embeddings of its ids; with Adam over the embedding, decay updates all of them."""
    state, before = stepped(SPARSE, slice(0, 1))
    rows = hundred_rows()
    ids = {int(rows.categorical[0, 0]), 5 + int(rows.categorical[0, 1]), *rows.bags[0].clamp(min=0).tolist()}
    updated = (embeddings_of(state.network)[0] != before).any(dim=1).nonzero().flatten().tolist()
    assert set(updated) <= ids
    assert len(updated) >= 2
    dense, before = stepped(recipe_with(embedding_weight_decay=1e-3), slice(0, 1))
    assert (embeddings_of(dense.network)[0] != before).any(dim=1).all()


def test_the_first_step_is_adams() -> None:
    """Where Adam's averages are still zero a row of the batch is updated as by Adam over the whole embedding."""
    sparse, before = stepped(SPARSE, slice(0, 100))
    dense, _ = stepped(recipe_with(embedding_weight_decay=1e-3), slice(0, 100))
    one, other = embeddings_of(sparse.network)[0], embeddings_of(dense.network)[0]
    updated = (one != before).any(dim=1)
    assert updated.sum() > 5
    torch.testing.assert_close(one[updated], other[updated], rtol=0, atol=2e-4)  # of a step of 0.01; their eps differ


@given(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 0.99]))
@settings(max_examples=30, deadline=None)
def test_the_average_of_rows_without_updates_is_the_average(steps: list[set[int]], decay: float) -> None:
    """Whatever rows are updated at whatever steps, after catching up the mean is that over every step."""
    network = small_hinet()
    sparse, plain = WeightAverage(network, decay, sparse=True), WeightAverage(network, decay)
    (embedding,) = embeddings_of(network)
    for rows in steps:
        ids = torch.tensor([sorted(rows)], dtype=torch.int64)
        values = torch.ones(ids.shape[1], embedding.shape[1])
        embedding.grad = torch.sparse_coo_tensor(ids, values, embedding.shape, is_coalesced=True, check_invariants=True)
        sparse.before_step()
        with torch.no_grad():
            embedding[ids[0]] += torch.randn(values.shape)
        sparse.update()
        plain.update()
    sparse.catch_up()
    torch.testing.assert_close(embeddings_of(sparse.network)[0], embeddings_of(plain.network)[0], rtol=1e-4, atol=1e-5)


def test_a_fit_with_sparse_embeddings_learns() -> None:
    """Opposite scenarios are learned as well as with Adam over the embedding: 0.80 is the best possible."""
    result = fitted(small_hinet(), recipe_with(sparse_embeddings=True, epochs=8, patience=8, average=0.5))
    assert result.best.valid_mean > 0.77


def test_a_stopped_fit_resumes_to_the_same_bits() -> None:
    """A state restored from its tensors makes the same next steps: Adam's state, means and their steps."""
    undisturbed, stopped = (TrainState(small_hinet(), SPARSE, torch.device("cpu")) for _ in range(2))
    for rows in (slice(0, 3), slice(3, 5), slice(5, 9)):
        step(undisturbed, rows)
    step(stopped, slice(0, 3))
    resumed = TrainState(small_hinet(), SPARSE, torch.device("cpu"))
    resumed.restore({name: value.clone() for name, value in stopped.tensors().items()})
    for rows in (slice(3, 5), slice(5, 9)):
        step(resumed, rows)
    one, other = undisturbed.tensors(), resumed.tensors()
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_sparse_gradients_are_clipped_with_the_others() -> None:
    """`clip_gradients` gives sparse and dense gradients the values of clip_grad_norm_ where all are dense."""
    weights = torch.randn(6, 2), torch.randn(3)
    dense = [nn.Parameter(weight.clone()) for weight in weights]
    sparse = [nn.Parameter(weight.clone()) for weight in weights]
    ids = torch.tensor([1, 4, 1])
    for (embedding, rest), is_sparse in ((dense, False), (sparse, True)):
        (nn.functional.embedding(ids, embedding, sparse=is_sparse).square().sum() + rest.square().sum()).backward()
    nn.utils.clip_grad_norm_(dense, 0.1)
    clip_gradients(sparse, 0.1)
    torch.testing.assert_close(sparse[0].grad.to_dense(), dense[0].grad)
    torch.testing.assert_close(sparse[1].grad, dense[1].grad)
