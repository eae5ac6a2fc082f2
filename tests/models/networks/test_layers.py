"""models/networks/layers.py: stacked layers equal the modules that they replace, one at a time, in loops."""

import doctest
import math

import pytest
import torch
from torch import Tensor, nn

from models.networks import layers
from models.networks.layers import Gates, StackedExperts, StackedLinear, StackedTowers, own_scenario
from tests.support.plain_blocks import apply

pytestmark = pytest.mark.unit


def plain_expert(stack: StackedExperts, expert: int, x: Tensor) -> Tensor:
    """One expert of a stack as plain matrix products."""
    for layer in stack.layers:
        x = torch.relu(x @ layer.weight[expert].T + layer.bias[expert])
    return x


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of the layers has the stated result."""
    assert doctest.testmod(layers).failed == 0


@pytest.mark.parametrize("units", [(5,), (6, 4), (7, 5, 3)])
def test_stacked_experts_are_the_experts_one_by_one(units: tuple[int, ...]) -> None:
    """Every expert of a stack equals its own perceptron, for shared rows and for its own rows."""
    stack = StackedExperts(experts=4, inputs=8, units=units)
    shared, rows = torch.randn(10, 8), torch.randn(4, 10, 8)
    for expert in range(4):
        torch.testing.assert_close(stack(shared)[expert], plain_expert(stack, expert, shared))
        torch.testing.assert_close(stack(rows)[expert], plain_expert(stack, expert, rows[expert]))


def test_gradients_of_a_stack_are_those_of_the_loop() -> None:
    """Every parameter, and x, has the same gradient from the stack as from the loop."""
    stack, x = StackedExperts(experts=3, inputs=5, units=(6, 4)), torch.randn(7, 5, requires_grad=True)
    gradient, leaves = torch.randn(3, 7, 4), [x, *stack.parameters()]
    fast = torch.autograd.grad((stack(x) * gradient).sum(), leaves)
    slow = torch.autograd.grad(sum((plain_expert(stack, e, x) * gradient[e]).sum() for e in range(3)), leaves)
    for one, other in zip(fast, slow, strict=True):
        torch.testing.assert_close(one, other)


def test_the_wide_product_follows_autocast() -> None:
    """Under autocast the product is in bfloat16, as any other linear layer's."""
    layers = StackedLinear(stack=3, inputs=6, outputs=5, relu=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert layers(torch.randn(4, 6)).dtype == torch.bfloat16
    assert layers(torch.randn(4, 6)).dtype == torch.float32


def test_each_expert_starts_as_a_linear_layer_of_torch_does() -> None:
    """Weights and biases of every layer are uniform within 1 / sqrt(inputs), as nn.Linear draws them."""
    torch.manual_seed(0)
    layer, plain = StackedLinear(stack=50, inputs=16, outputs=40), nn.Linear(16, 2000)
    for stacked, single in ((layer.weight, plain.weight), (layer.bias, plain.bias)):
        assert stacked.abs().max() <= 16**-0.5
        assert stacked.abs().max().item() == pytest.approx(single.abs().max().item(), rel=0.01)
        assert stacked.std().item() == pytest.approx(single.std().item(), rel=0.05)
    assert layer.weight[0].std().item() == pytest.approx(16**-0.5 / math.sqrt(3), rel=0.1)


def test_a_gate_is_a_softmax_over_experts_of_linear_logits() -> None:
    """Weights equal softmax(W x) gate by gate, sum to 1, and are not cut by a ReLU: negative logits count."""
    gates, x = Gates(mixtures=3, experts=4, inputs=6), torch.randn(9, 6)
    weights = gates(x)
    for mixture in range(3):
        logits = x @ gates.logits.weight[mixture].T
        assert (logits < 0).any()
        torch.testing.assert_close(weights[mixture], logits.softmax(dim=1))
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(3, 9))


def test_each_row_is_taken_from_its_own_scenario() -> None:
    """Row b of the result is row b of its scenario's values."""
    values, scenario = torch.randn(3, 4, 2), torch.tensor([2, 0, 0, 1], dtype=torch.int32)
    expected = torch.stack([values[2, 0], values[0, 1], values[0, 2], values[1, 3]])
    torch.testing.assert_close(own_scenario(values, scenario), expected)


@pytest.mark.parametrize("scenarios", [1, 3])
def test_towers_are_the_towers_one_by_one(scenarios: int) -> None:
    """The logit of a row and task is that of the tower of its scenario and task, computed by itself."""
    towers = StackedTowers(scenarios=scenarios, inputs=4, units=(5, 3), task_outputs=(1, 1))
    x, scenario = torch.randn(2, 6, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    logits = towers(x, scenario)
    for row, task in torch.cartesian_prod(torch.arange(6), torch.arange(2)).tolist():
        tower = int(scenario[row]) % scenarios * 2 + task
        hidden = plain_expert(towers.hidden, tower, x[task, row])
        logit = hidden @ towers.logits.weight[tower, 0] + towers.logits.bias[tower, 0]
        torch.testing.assert_close(logits[row, task], logit)


def test_towers_of_several_outputs_are_plain_towers_side_by_side() -> None:
    """Each task has its own number of logits, in the order of the tasks, by the row's own scenario."""
    outputs, random = (3, 1, 2), torch.Generator().manual_seed(5)
    for scenarios in (1, 4):
        towers = StackedTowers(scenarios=scenarios, inputs=4, units=(6,), task_outputs=outputs).double()
        x = torch.randn(3, 9, 4, generator=random, dtype=torch.float64)
        scenario = torch.randint(0, scenarios, (9,), generator=random)
        logits = towers(x, scenario)
        for row, own in enumerate(scenario.tolist()):
            layers = [towers.hidden, towers.logits]
            plain = [apply(layers, 3 * own + task, x[task, row])[:count] for task, count in enumerate(outputs)]
            torch.testing.assert_close(logits[row], torch.cat(plain))


def test_normalized_experts_do_not_depend_on_the_scale() -> None:
    """Scaling a layer's weights changes nothing: mean 0 and deviation 1 before each ReLU."""
    stack, x = StackedExperts(experts=3, inputs=6, units=(9, 5), normalize=True), torch.randn(20, 6)
    before = stack(x)
    with torch.no_grad():
        stack.layers[0].weight.mul_(50)
        stack.layers[0].bias.mul_(50)
    torch.testing.assert_close(stack(x), before, rtol=0, atol=1e-3)


@pytest.mark.parametrize("detach", [True, False])
def test_detached_gates_pass_no_gradient_to_the_features(detach: bool) -> None:
    """With `detach` no gradient reaches the features, without it does; the gates' own weights always have one."""
    gates, x = Gates(mixtures=2, experts=3, inputs=4, detach=detach), torch.randn(5, 4, requires_grad=True)
    gates(x).square().sum().backward()
    assert (x.grad is None) is detach
    assert gates.logits.weight.grad.any()
