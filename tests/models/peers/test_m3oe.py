"""models/peers/m3oe.py: the network equals the formula of its documentation, one row and one expert at a time."""

import dataclasses
import doctest

import pytest
import torch
from torch import Tensor

from models.networks.data_spec import DataSpec
from models.peers import m3oe
from models.peers.m3oe import Balance, M3oE, M3oEConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, SCENARIOS, TASKS, WIDTH, mixture, rows

pytestmark = pytest.mark.unit


def network(data: DataSpec = DATA) -> M3oE:
    """A small network."""
    config = M3oEConfig(embedding_width=WIDTH, star_units=(9, 8), experts=4, expert_units=(7,), tower_units=(6,))
    return M3oE(data, config)


def balanced(logit: Tensor, values: list[Tensor], own: int) -> Tensor:
    """sigmoid(logit) of the own value and the rest in equal parts of the others."""
    share, others = logit.sigmoid(), len(values) - 1
    return sum(value * (share if i == own else (1 - share) / others) for i, value in enumerate(values))


def plain_row(made: M3oE, x: Tensor, s: int) -> Tensor:
    """Logits [T] of a row x [D] of scenario s."""
    star = (made.view.star.weight[s] * made.view.star.shared.weight[0]) @ x + made.view.star.bias[s]
    star = star + made.view.star.shared.bias[0]
    view = plain_blocks.apply([made.view.after_star], 0, star) + plain_blocks.apply([made.view.beside_star], 0, x)
    experts = [plain_blocks.apply([made.experts], e, view) for e in range(4 + SCENARIOS + TASKS)]
    shared, of_scenarios, of_tasks = experts[:4], experts[4 : 4 + SCENARIOS], experts[4 + SCENARIOS :]
    logits = []
    for task in range(TASKS):
        cell = s * TASKS + task
        fused = mixture(made.gates.logits.weight[cell] @ view, shared)
        fused = fused + made.weights[0].sigmoid() * balanced(made.of_scenarios.logit, of_scenarios, s)
        fused = fused + made.weights[1].sigmoid() * balanced(made.of_tasks.logit, of_tasks, task)
        logits.append(plain_blocks.tower(made.towers, cell, fused))
    return torch.stack(logits)


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(m3oe).failed == 0


def test_m3oe_is_the_formula_of_its_documentation() -> None:
    """Star view, three kinds of experts, fusion in two levels, a tower per cell, row by row."""
    made = plain_blocks.with_random_weights(network())
    x, logits, scenarios, _ = plain_blocks.scored(made)
    expected = torch.stack([plain_row(made, row, s) for row, s in zip(x, scenarios, strict=True)])
    torch.testing.assert_close(logits, expected)


def test_the_gates_pass_no_gradient_to_the_view() -> None:
    """The gates read the view without a gradient; their own weights have one."""
    made = network()
    view = torch.randn(20, 8, requires_grad=True)
    made._gate(view, rows()[3]).square().sum().backward()
    assert view.grad is None
    assert made.gates.logits.weight.grad.any()


def test_rows_train_no_other_scenarios_parts() -> None:
    """Rows of scenario 1 leave no gradient in star weights, gates and towers of 0 and 2."""
    made = network()
    star, modules = made.view.star, (made.gates, made.towers)
    parameters = [star.weight, star.bias, *(parameter for module in modules for parameter in module.parameters())]
    assert plain_blocks.trained_scenarios(made, parameters) == [False, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_balance_divides_the_weight_between_own_and_others(count: int) -> None:
    """Rows sum to 1, sigmoid(b) for the own one and equal parts for the others; a single one has all."""
    balance = Balance(count)
    weights = balance()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(count))
    share = torch.ones(()) if count == 1 else balance.logit.sigmoid()
    torch.testing.assert_close(weights.diagonal(), share.expand(count))
    assert torch.equal(weights, weights.T)


def test_every_parameter_is_trained() -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network()) == []


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network()
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)


def test_one_scenario_and_one_task_are_enough() -> None:
    """Without others the own expert counts whole; every logit is finite."""
    made = network(dataclasses.replace(DATA, scenarios=1, task_outputs=(1,)))
    categorical, bags, numeric, scenario = rows()
    assert made(categorical, bags, numeric, scenario * 0).isfinite().all()
