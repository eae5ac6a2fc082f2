"""models/peers/mmoe.py: the network equals the paper's formula, one row and one expert at a time."""

import doctest
from typing import Any

import pytest
import torch

from models.peers import mmoe
from models.peers.mmoe import MMoE, MMoEConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, TASKS, WIDTH, mixture, rows

pytestmark = pytest.mark.unit


def network(**options: Any) -> MMoE:
    """A small network."""
    return MMoE(DATA, MMoEConfig(embedding_width=WIDTH, experts=3, expert_units=(8, 6), tower_units=(5,), **options))


def test_the_example_in_the_docstring_runs() -> None:
    """The example in the documentation has the stated result."""
    assert doctest.testmod(mmoe).failed == 0


@pytest.mark.parametrize("heads", [False, True])
def test_mmoe_is_the_papers_formula(heads: bool) -> None:
    """Each task's tower reads its own mixture of the experts that all share."""
    made = plain_blocks.with_random_weights(network(scenario_heads=heads))
    x, logits, scenarios, _ = plain_blocks.scored(made)
    for row, scenario in enumerate(scenarios):
        experts = [plain_blocks.apply([made.experts], k, x[row]) for k in range(3)]
        for task in range(TASKS):
            read = mixture(made.gates.logits.weight[task] @ x[row], experts)
            expected = plain_blocks.tower(made.towers, scenario * TASKS + task if heads else task, read)
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
