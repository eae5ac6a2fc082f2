"""models/networks/shared_bottom.py: the network equals a bottom and towers in plain loops."""

import doctest
from typing import Any

import pytest
import torch

from models.networks import shared_bottom
from models.networks.shared_bottom import SharedBottom, SharedBottomConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, TASKS, WIDTH, rows

pytestmark = pytest.mark.unit


def network(**options: Any) -> SharedBottom:
    """A small network."""
    config = SharedBottomConfig(embedding_width=WIDTH, bottom_units=(8, 6), tower_units=(5,), **options)
    return SharedBottom(DATA, config)


def test_the_example_in_the_docstring_runs() -> None:
    """The example in the documentation has the stated result."""
    assert doctest.testmod(shared_bottom).failed == 0


@pytest.mark.parametrize("heads", [False, True])
def test_shared_bottom_is_one_perceptron_and_towers(heads: bool) -> None:
    """Logits equal bottom and towers computed one after the other, per task or per scenario and task."""
    made = plain_blocks.with_random_weights(network(scenario_heads=heads))
    x, logits, scenarios, _ = plain_blocks.scored(made)
    for row, scenario in enumerate(scenarios):
        bottom = plain_blocks.apply([made.bottom], 0, x[row])
        for task in range(TASKS):
            expected = plain_blocks.tower(made.towers, scenario * TASKS + task if heads else task, bottom)
            torch.testing.assert_close(logits[row, task], expected)


@pytest.mark.parametrize("heads", [False, True])
def test_every_parameter_is_trained(heads: bool) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network(scenario_heads=heads)) == []


@pytest.mark.parametrize("heads", [False, True])
def test_a_row_does_not_depend_on_its_batch(heads: bool) -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network(scenario_heads=heads)
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
