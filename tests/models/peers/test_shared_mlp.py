"""models/peers/shared_mlp.py: the network equals one perceptron."""

import doctest

import pytest
import torch

from models.peers import shared_mlp
from models.peers.shared_mlp import SharedMLP, SharedMLPConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, WIDTH, rows

pytestmark = pytest.mark.unit


def network() -> SharedMLP:
    """A small network."""
    return SharedMLP(DATA, SharedMLPConfig(embedding_width=WIDTH, units=(8, 6)))


def test_the_example_in_the_docstring_runs() -> None:
    """The example in the documentation has the stated result."""
    assert doctest.testmod(shared_mlp).failed == 0


def test_shared_mlp_is_one_perceptron() -> None:
    """The logits of all rows are the same perceptron's, whatever their scenario."""
    made = plain_blocks.with_random_weights(network())
    x, logits, _, _ = plain_blocks.scored(made)
    expected = torch.stack([plain_blocks.apply([made.hidden, made.logits], 0, row) for row in x])
    torch.testing.assert_close(logits, expected)


def test_every_parameter_is_trained() -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network()) == []


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network()
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
