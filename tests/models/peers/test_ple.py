"""models/peers/ple.py: the network equals the paper's formula, one row and one expert at a time."""

import doctest

import pytest
import torch
from torch import Tensor

from models.peers import ple
from models.peers.ple import PLE, Extraction, PLEConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, TASKS, WIDTH, mixture, rows

pytestmark = pytest.mark.unit
TASK_EXPERTS, SHARED_EXPERTS = 2, 3


def network(levels: int) -> PLE:
    """A small network; one level is CGC."""
    config = PLEConfig(
        embedding_width=WIDTH,
        levels=levels,
        task_experts=TASK_EXPERTS,
        shared_experts=SHARED_EXPERTS,
        expert_units=(8, 6),
        tower_units=(5,),
    )
    return PLE(DATA, config)


def plain_level(extraction: Extraction, states: list[Tensor]) -> list[Tensor]:
    """One row's states of the tasks and then the shared one [T + 1] after a level of PLE."""
    read = [state for state in states[:TASKS] for _ in range(TASK_EXPERTS)] + [states[TASKS]] * SHARED_EXPERTS
    experts = [plain_blocks.apply([extraction.experts], e, state) for e, state in enumerate(read)]
    mixtures = []
    for task in range(TASKS):
        own = experts[task * TASK_EXPERTS : (task + 1) * TASK_EXPERTS] + experts[TASKS * TASK_EXPERTS :]
        mixtures.append(mixture(extraction.gates.logits.weight[task] @ states[task], own))
    if extraction.shared_gate is not None:
        mixtures.append(mixture(extraction.shared_gate.logits.weight[0] @ states[TASKS], experts))
    return mixtures


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(ple).failed == 0


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ple_is_the_papers_formula(levels: int) -> None:
    """Tasks read their own and the shared experts at each level; the shared state reads all of them but at the last."""
    made = plain_blocks.with_random_weights(network(levels))
    x, logits, scenarios, _ = plain_blocks.scored(made)
    for row in range(len(scenarios)):
        states = [x[row]] * (TASKS + 1)
        for extraction in made.levels:
            states = plain_level(extraction, states)
        assert len(states) == TASKS
        expected = torch.stack([plain_blocks.tower(made.towers, task, state) for task, state in enumerate(states)])
        torch.testing.assert_close(logits[row], expected)


@pytest.mark.parametrize("levels", [1, 3])
def test_every_parameter_is_trained(levels: int) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network(levels)) == []


@pytest.mark.parametrize("levels", [1, 3])
def test_a_row_does_not_depend_on_its_batch(levels: int) -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network(levels)
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
