"""models/inference/fused_layers.py: all experts at once and one by one are the same layers."""

import pytest
import torch

from models.inference.fused_layers import ExpertStack, FusedScenarioLayer, FusedTaskLayer, FusedTowers
from tests.support.fused_requests import network

pytestmark = pytest.mark.unit


def test_a_stack_runs_all_experts_at_once_or_one_by_one() -> None:
    """Both equal the stacked experts of the network."""
    experts = network().control.experts
    stack, x = ExpertStack(experts.linear_layers()), torch.randn(50, 18)
    with torch.no_grad():
        expected = experts(x)
        torch.testing.assert_close(stack.all(x.expand(len(expected), -1, -1)), expected)
        for expert, of_one in enumerate(expected):
            torch.testing.assert_close(stack.one(expert, x), of_one)


def test_the_scenario_layer_needs_only_the_experts_in_its_context() -> None:
    """Without the attention sub-experts of other scenarios are not run: G has 0 to 2, scenario 1 has 6 to 8."""
    made = network(scenario_attention=False)
    layer = FusedScenarioLayer(made, made.integration.experts.linear_layers()[1:], 3)
    assert layer.uses[1] == [(e, [(0, e)]) for e in (0, 1, 2)] + [(e, [(1, e)]) for e in (6, 7, 8)]


def test_the_task_layer_equals_customized_gate_control() -> None:
    """At once and one by one: the inputs of the towers that the network's task layer has."""
    control, context = network().control, torch.randn(50, 18)
    layer = FusedTaskLayer(control)
    with torch.no_grad():
        expected = control(context)
        torch.testing.assert_close(layer.batched(context), expected)
        torch.testing.assert_close(torch.stack(layer.one_by_one(context)), expected)


@pytest.mark.parametrize("heads", [False, True])
def test_towers_of_the_requested_scenario_are_run(heads: bool) -> None:
    """At once and one by one: the logits of the network's towers for rows of that scenario, without surplus outputs."""
    towers, x = network(scenario_heads=heads, task_outputs=(1, 3)).towers, torch.randn(2, 50, 5)
    layer = FusedTowers(towers, 2)
    for scenario in range(4):
        with torch.no_grad():
            expected = towers(x, torch.full((50,), scenario))
            torch.testing.assert_close(layer.batched(x, scenario), expected)
            torch.testing.assert_close(layer.one_by_one(list(x), scenario), expected)
