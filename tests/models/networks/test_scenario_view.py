"""models/networks/scenario_view.py: the layers of STAR and the view of M3oE, row by row."""

import doctest

import pytest
import torch

from models.networks import scenario_view
from models.networks.scenario_view import ScenarioView, StarLinear
from tests.support import plain_blocks

pytestmark = pytest.mark.unit


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(scenario_view).failed == 0


def test_all_scenarios_start_as_the_shared_layer() -> None:
    """Before training the scenarios' layers are the same: each starts from what all have."""
    layer = StarLinear(scenarios=3, inputs=4, outputs=2)
    first, second, third = layer(torch.randn(5, 4))
    torch.testing.assert_close(second, first, rtol=0, atol=1e-6)  # one product, whose columns may round differently
    torch.testing.assert_close(third, first, rtol=0, atol=1e-6)


def test_a_view_is_the_scenarios_layer_and_the_shared_one() -> None:
    """A row's view is MLP(Star_s(x)) + MLP'(x), s the row's own scenario."""
    view = plain_blocks.with_random_weights(ScenarioView(scenarios=3, inputs=4, units=(8, 6)))
    x, scenario = torch.randn(20, 4, dtype=torch.double), torch.arange(20) % 3
    for row, s, actual in zip(x, scenario, view(x, scenario), strict=True):
        star = (view.star.weight[s] * view.star.shared.weight[0]) @ row + view.star.bias[s] + view.star.shared.bias[0]
        expected = plain_blocks.apply([view.after_star], 0, star) + plain_blocks.apply([view.beside_star], 0, row)
        torch.testing.assert_close(actual, expected)
