"""MMoE, PLE and M3oE against their papers' formulas, one row and one expert at a time."""

import doctest
from typing import Any

import pytest
import torch
from torch import Tensor

from models.peers import mixtures
from models.peers.mixtures import PLE, Balance, Extraction, M3oE, MMoE
from tests.support import plain_blocks
from tests.support.plain_blocks import LAYOUT, SCENARIOS, TASKS, mixture, rows

MMOE: dict[str, Any] = {**LAYOUT, "experts": 3, "expert_units": (8, 6), "tower_units": (5,)}
PLE_: dict[str, Any] = {
    **LAYOUT,
    "task_experts": 2,
    "shared_experts": 3,
    "expert_units": (8, 6),
    "tower_units": (5,),
}
M3OE: dict[str, Any] = {**LAYOUT, "star_units": (9, 8), "experts": 4, "expert_units": (7,), "tower_units": (6,)}
NETWORKS = {
    "mmoe": lambda: MMoE(**MMOE),
    "mmoe_heads": lambda: MMoE(**MMOE, scenario_heads=True),
    "cgc": lambda: PLE(**PLE_, levels=1),
    "ple": lambda: PLE(**PLE_, levels=3),
    "m3oe": lambda: M3oE(**M3OE),
}


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of the mixtures gives what it says."""
    assert doctest.testmod(mixtures).failed == 0


@pytest.mark.parametrize("heads", [False, True])
def test_mmoe_is_the_papers_formula(heads: bool) -> None:
    """Each task's tower reads its own mixture of the experts that all share."""
    network = plain_blocks.wild(MMoE(**MMOE, scenario_heads=heads))
    x, found, scenarios, _ = plain_blocks.scored(network)
    for row, scenario in enumerate(scenarios):
        experts = [plain_blocks.apply([network.experts], k, x[row]) for k in range(3)]
        for task in range(TASKS):
            read = mixture(network.gates.logits.weight[task] @ x[row], experts)
            expected = plain_blocks.tower(network.towers, scenario * TASKS + task if heads else task, read)
            torch.testing.assert_close(found[row, task], expected)


def level(extraction: Extraction, states: list[Tensor]) -> list[Tensor]:
    """One row's states of the tasks and then the shared one [T + 1] after a level of PLE."""
    per, shared = 2, 3
    read = [state for state in states[:TASKS] for _ in range(per)] + [states[TASKS]] * shared
    experts = [plain_blocks.apply([extraction.experts], e, one) for e, one in enumerate(read)]
    made = []
    for task in range(TASKS):
        of_task = experts[task * per : (task + 1) * per] + experts[TASKS * per :]
        made.append(mixture(extraction.gates.logits.weight[task] @ states[task], of_task))
    if extraction.shared_gate is not None:
        made.append(mixture(extraction.shared_gate.logits.weight[0] @ states[TASKS], experts))
    return made


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_ple_is_the_papers_formula(levels: int) -> None:
    """Tasks read their own and the shared experts at each level; what is shared reads them all but at the last."""
    network = plain_blocks.wild(PLE(**PLE_, levels=levels))
    x, found, scenarios, _ = plain_blocks.scored(network)
    for row in range(len(scenarios)):
        states = [x[row]] * (TASKS + 1)
        for extraction in network.levels:
            states = level(extraction, states)
        assert len(states) == TASKS
        expected = torch.stack([plain_blocks.tower(network.towers, task, state) for task, state in enumerate(states)])
        torch.testing.assert_close(found[row], expected)


def balanced(logit: Tensor, values: list[Tensor], own: int) -> Tensor:
    """The share of the own value and the rest in equal parts to the others."""
    share, others = logit.sigmoid(), len(values) - 1
    return sum(value * (share if i == own else (1 - share) / others) for i, value in enumerate(values))


def m3oe_row(network: M3oE, x: Tensor, s: int) -> Tensor:
    """Logits [T] of a row x [D] of scenario s."""
    star = (network.view.star.weight[s] * network.view.star.shared.weight[0]) @ x + network.view.star.bias[s]
    star = star + network.view.star.shared.bias[0]
    view = plain_blocks.apply([network.view.after_star], 0, star) + plain_blocks.apply([network.view.beside_star], 0, x)
    experts = [plain_blocks.apply([network.experts], e, view) for e in range(4 + SCENARIOS + TASKS)]
    shared, of_scenarios, of_tasks = experts[:4], experts[4 : 4 + SCENARIOS], experts[4 + SCENARIOS :]
    logits = []
    for task in range(TASKS):
        cell = s * TASKS + task
        fused = mixture(network.gates.logits.weight[cell] @ view, shared)
        fused = fused + network.weights[0].sigmoid() * balanced(network.of_scenarios.logit, of_scenarios, s)
        fused = fused + network.weights[1].sigmoid() * balanced(network.of_tasks.logit, of_tasks, task)
        logits.append(plain_blocks.tower(network.towers, cell, fused))
    return torch.stack(logits)


def test_m3oe_is_the_formula_of_its_documentation() -> None:
    """Star view, three kinds of experts, fusion in two levels, a tower per cell, row by row."""
    network = plain_blocks.wild(M3oE(**M3OE))
    x, found, scenarios, _ = plain_blocks.scored(network)
    expected = torch.stack([m3oe_row(network, one, s) for one, s in zip(x, scenarios, strict=True)])
    torch.testing.assert_close(found, expected)


def test_m3oes_gates_teach_the_view_nothing() -> None:
    """The gates read the view without a gradient; their own weights get one."""
    network = M3oE(**M3OE)
    view = torch.randn(20, 8, requires_grad=True)
    network._gate(view, rows()[3]).square().sum().backward()
    assert view.grad is None
    assert network.gates.logits.weight.grad.any()


def test_m3oe_trains_no_other_scenarios_parts() -> None:
    """Rows of scenario 1 leave no gradient in star weights, gates and towers of 0 and 2."""
    network = M3oE(**M3OE)
    own = [network.view.star.weight, network.view.star.bias, *network.gates.parameters(), *network.towers.parameters()]
    assert plain_blocks.of_other_scenarios(network, own) == [False, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_balance_gives_each_its_share(count: int) -> None:
    """Rows sum to 1, sigmoid(b) for the own one and equal parts for the others; alone it keeps all."""
    balance = Balance(count)
    weights = balance()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(count))
    share = torch.ones(()) if count == 1 else balance.logit.sigmoid()
    torch.testing.assert_close(weights.diagonal(), share.expand(count))
    assert torch.equal(weights, weights.T)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_is_trained(make: Any) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(make()) == []


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_row_does_not_depend_on_its_batch(make: Any) -> None:
    """Scored alone or among others, a row gets the same logits."""
    network = make()
    torch.testing.assert_close(network(*rows()), plain_blocks.alone(network), rtol=0, atol=1e-6)


def test_one_scenario_and_one_task_will_do() -> None:
    """With nobody beside it the own expert counts whole; no number is missing."""
    network = M3oE(**{**M3OE, "scenarios": 1, "tasks": 1})
    categorical, bags, numeric, scenario = rows()
    assert network(categorical, bags, numeric, scenario * 0).isfinite().all()
