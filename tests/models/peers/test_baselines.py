"""The plain networks that HiNet has to beat, against the same network written plainly."""

import doctest
from typing import Any

import pytest
import torch
from torch import nn

from models.peers import baselines
from models.peers.baselines import MLPPerScenario, SharedBottom, SharedMLP
from tests.support import plain_blocks
from tests.support.plain_blocks import LAYOUT, TASKS, rows

BOTTOM: dict[str, Any] = {**LAYOUT, "bottom_units": (8, 6), "tower_units": (5,)}
PERCEPTRON: dict[str, Any] = {**LAYOUT, "units": (8, 6)}
NETWORKS = {
    "shared_bottom": lambda: SharedBottom(**BOTTOM),
    "heads": lambda: SharedBottom(**BOTTOM, scenario_heads=True),
    "shared_mlp": lambda: SharedMLP(**PERCEPTRON),
    "mlp_per_scenario": lambda: MLPPerScenario(**PERCEPTRON),
}


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of the baselines gives what it says."""
    assert doctest.testmod(baselines).failed == 0


@pytest.mark.parametrize("heads", [False, True])
def test_shared_bottom_is_one_perceptron_and_towers(heads: bool) -> None:
    """Logits equal bottom and towers computed one after the other, per task or per scenario and task."""
    network = plain_blocks.wild(SharedBottom(**BOTTOM, scenario_heads=heads))
    x, found, scenarios, _ = plain_blocks.scored(network)
    for row, scenario in enumerate(scenarios):
        bottom = plain_blocks.apply([network.bottom], 0, x[row])
        for task in range(TASKS):
            expected = plain_blocks.tower(network.towers, scenario * TASKS + task if heads else task, bottom)
            torch.testing.assert_close(found[row, task], expected)


def test_shared_mlp_is_one_perceptron() -> None:
    """All rows leave by the same perceptron, whatever their scenario."""
    network = plain_blocks.wild(SharedMLP(**PERCEPTRON))
    x, found, _, _ = plain_blocks.scored(network)
    expected = torch.stack([plain_blocks.apply([network.hidden, network.logits], 0, one) for one in x])
    torch.testing.assert_close(found, expected)


def test_mlp_per_scenario_is_the_rows_own_perceptron() -> None:
    """A row leaves by its own scenario's perceptron."""
    network = plain_blocks.wild(MLPPerScenario(**PERCEPTRON))
    x, found, scenarios, _ = plain_blocks.scored(network)
    made = [plain_blocks.apply([network.hidden, network.logits], i, one) for i, one in zip(scenarios, x, strict=True)]
    torch.testing.assert_close(found, torch.stack(made))


def test_mlp_per_scenario_trains_no_other_scenarios_perceptron() -> None:
    """Rows of scenario 1 leave exactly no gradient in the perceptrons of 0 and 2."""
    network = MLPPerScenario(**PERCEPTRON)
    own = [*network.hidden.parameters(), *network.logits.parameters()]
    assert plain_blocks.of_other_scenarios(network, own) == [False, True, False]


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_is_trained(make: Any) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(make()) == []


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_row_does_not_depend_on_its_batch(make: Any) -> None:
    """Scored alone or among others, a row gets the same logits."""
    network: nn.Module = make()
    torch.testing.assert_close(network(*rows()), plain_blocks.alone(network), rtol=0, atol=1e-6)
