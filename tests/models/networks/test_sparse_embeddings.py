"""models/networks/sparse_embeddings.py: a step moves the rows that its batch names, and nothing else; averages miss no step."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from common.errors import TrainingError
from models.networks.sparse_embeddings import clip, tables_of
from models.training.batches import Rows
from models.training.distributed import Group
from models.training.train_state import Average, State
from tests.models.training.test_loop import changed, fitted, hinet, opposite

LAZY = changed(sparse_embeddings=True, embedding_weight_decay=1e-3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def stepped(recipe: Any, rows: slice) -> tuple[State, torch.Tensor]:
    """A state after one step on these rows of `opposite`, and its table as it was before."""
    state = State(hinet(), recipe, torch.device("cpu"))
    before = tables_of(state.network)[0].detach().clone()
    part = Rows(opposite(100, 0), torch.device("cpu")).resident
    assert part is not None
    categorical, bags, numeric, scenario = (column[rows] for column in part[:4])
    state.network(categorical, bags, numeric, scenario).square().sum().backward()
    state.move()
    return state, before


def test_only_named_rows_move() -> None:
    """A step on one row moves the rows of the table that it names; under Adam over the table, decay moves them all."""
    state, before = stepped(LAZY, slice(0, 1))
    part = Rows(opposite(100, 0), torch.device("cpu")).resident
    assert part is not None
    named = {int(part.categorical[0, 0]), 5 + int(part.categorical[0, 1]), *part.bags[0].clamp(min=0).tolist()}
    moved = (tables_of(state.network)[0] != before).any(dim=1).nonzero().flatten().tolist()
    assert set(moved) <= named
    assert len(moved) >= 2
    dense, before = stepped(changed(embedding_weight_decay=1e-3), slice(0, 1))
    assert (tables_of(dense.network)[0] != before).any(dim=1).all()


def test_the_first_step_is_adams() -> None:
    """Where every moment is still zero a named row moves as under Adam over the whole table."""
    lazy, before = stepped(LAZY, slice(0, 100))
    dense, _ = stepped(changed(embedding_weight_decay=1e-3), slice(0, 100))
    one, other = tables_of(lazy.network)[0], tables_of(dense.network)[0]
    named = (one != before).any(dim=1)
    assert named.sum() > 5
    torch.testing.assert_close(one[named], other[named], rtol=0, atol=2e-4)  # of a step of 0.01; their eps differ


@given(st.lists(st.sets(st.integers(0, 3)), min_size=1, max_size=12), st.sampled_from([0.0, 0.5, 0.99]))
@settings(max_examples=30, deadline=None)
def test_the_average_of_rows_that_stood_still_is_the_average(steps: list[set[int]], decay: float) -> None:
    """Whatever rows move at whatever steps, after catching up the mean is that of an average which saw every step."""
    network = hinet()
    lazy, plain = Average(network, decay, lazy=True), Average(network, decay)
    (table,) = tables_of(network)
    for rows in steps:
        named = torch.tensor([sorted(rows)], dtype=torch.int64)
        values = torch.ones(named.shape[1], table.shape[1])
        table.grad = torch.sparse_coo_tensor(named, values, table.shape, is_coalesced=True, check_invariants=True)
        lazy.prepare()
        with torch.no_grad():
            table[named[0]] += torch.randn(values.shape)
        lazy.update()
        plain.update()
    lazy.catch_up()
    torch.testing.assert_close(tables_of(lazy.network)[0], tables_of(plain.network)[0], rtol=1e-4, atol=1e-5)


def test_a_lazy_fit_learns() -> None:
    """The opposite tastes of two scenarios are found as well as with Adam over the table: 0.80 is the best possible."""
    found = fitted(hinet(), changed(sparse_embeddings=True, epochs=8, patience=8, average=0.5))
    assert found.best.valid_mean_auc > 0.77


def test_a_stopped_lazy_fit_goes_on_to_the_same_bits() -> None:
    """A state restored from its tensors makes the same next steps: moments, means and the steps they are of."""
    part = Rows(opposite(100, 0), torch.device("cpu")).resident
    assert part is not None

    def move(state: State, rows: slice) -> None:
        state.network.zero_grad()
        categorical, bags, numeric, scenario = (column[rows] for column in part[:4])
        state.network(categorical, bags, numeric, scenario).square().sum().backward()
        state.move()

    undisturbed, stopped = (State(hinet(), LAZY, torch.device("cpu")) for _ in range(2))
    for rows in (slice(0, 3), slice(3, 5), slice(5, 9)):
        move(undisturbed, rows)
    move(stopped, slice(0, 3))
    again = State(hinet(), LAZY, torch.device("cpu"))
    again.restore({name: value.clone() for name, value in stopped.tensors().items()})
    for rows in (slice(3, 5), slice(5, 9)):
        move(again, rows)
    one, other = undisturbed.tensors(), again.tensors()
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_sparse_gradients_are_cut_with_the_others() -> None:
    """`clip` leaves a table's sparse gradient and the dense ones as clip_grad_norm_ leaves them where all are dense."""
    weights = torch.randn(6, 2), torch.randn(3)
    dense = [nn.Parameter(weight.clone()) for weight in weights]
    sparse = [nn.Parameter(weight.clone()) for weight in weights]
    ids = torch.tensor([1, 4, 1])
    for (table, rest), lazy in ((dense, False), (sparse, True)):
        (nn.functional.embedding(ids, table, sparse=lazy).square().sum() + rest.square().sum()).backward()
    nn.utils.clip_grad_norm_(dense, 0.1)
    clip(sparse, 0.1)
    torch.testing.assert_close(sparse[0].grad.to_dense(), dense[0].grad)
    torch.testing.assert_close(sparse[1].grad, dense[1].grad)


def test_several_processes_are_refused() -> None:
    """Sparse gradients are not added up over processes: the sentence says what to set."""
    with pytest.raises(TrainingError, match=r"sparse_embeddings needs train\.processes 1"):
        fitted(hinet(), LAZY, group=Group(0, 2))
