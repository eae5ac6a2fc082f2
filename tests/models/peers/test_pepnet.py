"""models/peers/pepnet.py: the network equals the paper's formula, one row at a time."""

import doctest

import pytest
import torch
from torch import Tensor

from models.peers import pepnet
from models.peers.pepnet import GateUnit, PEPNet, PEPNetConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, TASKS, WIDTH, rows

pytestmark = pytest.mark.unit


def network() -> PEPNet:
    """A small network."""
    return PEPNet(DATA, PEPNetConfig(embedding_width=WIDTH, units=(8, 6), gate_units=7, scenario_width=3))


def plain_gate(unit: GateUnit, index: int, x: Tensor) -> Tensor:
    """The factors of gate `index` of a stack for its input x."""
    return 2 * torch.sigmoid(plain_blocks.apply([unit.hidden, unit.scores], index, x))


def plain_row(made: PEPNet, x: Tensor, s: int) -> Tensor:
    """Logits [T] of a row x [D] of scenario s."""
    chosen = x * plain_gate(made.choice, 0, torch.cat([made.scenario.weight[s], x]))
    logits = []
    for task in range(TASKS):
        h = chosen
        for layer, unit in zip(made.layers, made.gates, strict=True):
            h = plain_blocks.apply([layer], task, h) * plain_gate(unit, task, torch.cat([x, chosen]))
        logits.append(plain_blocks.apply([made.logits], task, h)[0])
    return torch.stack(logits)


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(pepnet).failed == 0


def test_pepnet_is_the_papers_formula() -> None:
    """The scenario scales the features, the features scale each hidden layer of each task's tower."""
    made = plain_blocks.with_random_weights(network())
    x, logits, scenarios, _ = plain_blocks.scored(made)
    expected = [plain_row(made, *row) for row in zip(x, scenarios, strict=True)]
    torch.testing.assert_close(logits, torch.stack(expected))


@pytest.mark.parametrize(("score", "scale"), [(-100.0, 0.0), (0.0, 1.0), (100.0, 2.0)])
def test_gates_scale_by_0_to_2(score: float, scale: float) -> None:
    """2 * sigmoid: no change where the score is 0."""
    unit = network().choice
    with torch.no_grad():
        unit.scores.weight.zero_()
        unit.scores.bias.fill_(score)
        assert unit(torch.randn(5, 17)).unique().tolist() == [scale]


def test_gates_pass_no_gradient_where_they_stop_it() -> None:
    """Neither the features through the choice's gate nor the chosen ones through a layer's gate have a gradient."""
    made = network()
    with torch.no_grad():  # the remaining paths lead through the gates
        made.layers[0].weight.zero_()
        for unit in made.gates:
            unit.hidden.weight[:, :, :14].zero_()  # the weights of x, whose gradient is not stopped
    made(*rows()).sum().backward()
    assert not made.embedding.weight.grad.any()
    assert made.gates[0].hidden.weight.grad[:, :, 14:].any()


def test_every_parameter_is_trained() -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network()) == []


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Once trained, rows have the same logits one by one and in a batch."""
    made = network().train()
    made(*rows())
    torch.testing.assert_close(made.eval()(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
