"""STAR and PEPNet against their papers' formulas, one row at a time."""

import doctest
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from features.encoding.tensors import Tensors
from models.evaluation.predict import predict
from models.peers import adaptive
from models.peers.adaptive import STAR, PartitionedNorm, PEPNet, StarLinear
from tests.support import plain_blocks
from tests.support.plain_blocks import LAYOUT, SCENARIOS, TASKS, rows

STAR_: dict[str, Any] = {**LAYOUT, "units": (8, 6), "auxiliary_units": (5,), "scenario_width": 3}
PEPNET: dict[str, Any] = {**LAYOUT, "units": (8, 6), "gate_units": 7, "scenario_width": 3}
NETWORKS = {
    "star": lambda: STAR(**STAR_, partitioned_norm=True),
    "star_plain": lambda: STAR(**STAR_, partitioned_norm=False),
    "pepnet": lambda: PEPNet(**PEPNET),
}


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of STAR and PEPNet gives what it says."""
    assert doctest.testmod(adaptive).failed == 0


def star_row(network: STAR, x: Tensor, normal: Tensor, s: int) -> Tensor:
    """Logits [T] of a row of scenario s from its features x [D] and the normalized ones."""
    for layer in network.star:
        weight = layer.weight[s] * layer.shared.weight[0]
        normal = weight @ normal + layer.bias[s] + layer.shared.bias[0]
        normal = torch.relu(normal) if layer.rectify else normal
    told = torch.cat([x, network.scenario.weight[s]])
    return normal + plain_blocks.apply(network.auxiliary, 0, told)


@pytest.mark.parametrize("norm", [False, True])
def test_star_is_the_papers_formula(norm: bool) -> None:
    """Each layer's weights are those of the scenario times the shared ones; the auxiliary network is added."""
    network = plain_blocks.wild(STAR(**STAR_, partitioned_norm=norm))
    x, found, scenarios, scenario = plain_blocks.scored(network)
    normal = network.norm(x, scenario) if norm else x
    made = [star_row(network, *row) for row in zip(x, normal, scenarios, strict=True)]
    torch.testing.assert_close(found, torch.stack(made))


def test_all_scenarios_start_as_the_shared_layer() -> None:
    """Before training the scenarios' layers are the same: what one learns first, all know."""
    layer = StarLinear(scenarios=SCENARIOS, inputs=4, outputs=2)
    first, second, third = layer(torch.randn(5, 4))
    torch.testing.assert_close(second, first, rtol=0, atol=1e-6)  # one product, whose columns may round apart
    torch.testing.assert_close(third, first, rtol=0, atol=1e-6)


def test_star_trains_no_other_scenarios_weights() -> None:
    """Rows of scenario 1 leave no gradient in the weights, norms and embeddings of 0 and 2."""
    network = STAR(**STAR_, partitioned_norm=True).train()
    own = [parameter for layer in network.star for parameter in (layer.weight, layer.bias)]
    own += [network.norm.scale, network.norm.shift, network.scenario.weight]
    assert plain_blocks.of_other_scenarios(network, own) == [False, True, False]


def test_a_batch_is_normalized_by_scenario() -> None:
    """In training the rows of each scenario have mean 0 and deviation 1 before scale and shift."""
    norm = PartitionedNorm(scenarios=3, width=4, epsilon=1e-12).double()
    scenario = torch.arange(60) % 3
    x = torch.randn(60, 4, dtype=torch.double) * (scenario + 1).unsqueeze(1) + 10 * scenario.unsqueeze(1)
    normal = norm(x, scenario)
    for s in range(3):
        rows_of = normal[scenario == s]
        torch.testing.assert_close(rows_of.mean(dim=0), torch.zeros(4, dtype=torch.double), atol=1e-9, rtol=0)
        torch.testing.assert_close(rows_of.var(dim=0, correction=0), torch.ones(4, dtype=torch.double))


def test_scale_and_shift_are_shared_and_own() -> None:
    """Scales multiply and shifts add up, those of all scenarios and those of the row's."""
    norm = PartitionedNorm(scenarios=2, width=1, epsilon=0.0).eval()
    with torch.no_grad():
        norm.shared_scale.fill_(3.0)
        norm.scale[1] = 5.0
        norm.shared_shift.fill_(7.0)
        norm.shift[1] = 11.0
    assert norm(torch.ones(2, 1), torch.tensor([0, 1])).tolist() == [[3 + 7.0], [15 + 18.0]]


def test_what_is_scored_with_is_the_mean_over_the_batches() -> None:
    """Early on each scenario's moving statistics are the plain means of its batches'; later ones weigh `momentum`."""
    norm, seen = PartitionedNorm(scenarios=2, width=3, momentum=0.25).double(), []
    for _ in range(4):
        x = torch.randn(10, 3, dtype=torch.double)
        norm(x, torch.zeros(10).long())
        seen.append(x)
    torch.testing.assert_close(norm.mean[0], torch.stack([x.mean(dim=0) for x in seen]).mean(dim=0))
    torch.testing.assert_close(norm.variance[0], torch.stack([x.var(dim=0, correction=0) for x in seen]).mean(dim=0))
    before = norm.mean[0].clone()
    norm(torch.full((10, 3), 2.0, dtype=torch.double), torch.zeros(10).long())
    torch.testing.assert_close(norm.mean[0], 0.75 * before + 0.25 * 2)
    assert norm.mean[1].tolist() == [0, 0, 0]  # no rows, no change
    assert norm.variance[1].tolist() == [1, 1, 1]


def test_predict_scores_with_what_training_gathered() -> None:
    """A network that comes from training is not normalized by the rows that it is asked for."""
    network, (categorical, bags, numeric, scenario) = STAR(**STAR_, partitioned_norm=True).train(), rows()
    expected = network(*rows()), network.eval()(*rows())
    few = Tensors(
        *(column.numpy() for column in (categorical, bags, numeric, scenario)),
        labels=np.zeros((20, TASKS), np.float32),
        event_id=np.arange(20),
        user=np.arange(20),
    )
    found = torch.from_numpy(predict(network.train(), few, "star"))
    torch.testing.assert_close(found, expected[1])
    assert not torch.allclose(found, expected[0])


def pepnet_row(network: PEPNet, x: Tensor, s: int) -> Tensor:
    """Logits [T] of a row x [D] of scenario s."""

    def gate(unit: Any, task: int, told: Tensor) -> Tensor:
        return 2 * torch.sigmoid(plain_blocks.apply([unit.hidden, unit.scores], task, told))

    chosen = x * gate(network.choice, 0, torch.cat([network.scenario.weight[s], x]))
    logits = []
    for task in range(TASKS):
        h = chosen
        for layer, unit in zip(network.layers, network.gates, strict=True):
            h = plain_blocks.apply([layer], task, h) * gate(unit, task, torch.cat([x, chosen]))
        logits.append(plain_blocks.apply([network.logits], task, h)[0])
    return torch.stack(logits)


def test_pepnet_is_the_papers_formula() -> None:
    """The scenario scales the features, the prior scales each hidden layer of each task's tower."""
    network = plain_blocks.wild(PEPNet(**PEPNET))
    x, found, scenarios, _ = plain_blocks.scored(network)
    made = [pepnet_row(network, *row) for row in zip(x, scenarios, strict=True)]
    torch.testing.assert_close(found, torch.stack(made))


@pytest.mark.parametrize(("score", "scale"), [(-100.0, 0.0), (0.0, 1.0), (100.0, 2.0)])
def test_pepnets_gates_reach_from_off_to_twice(score: float, scale: float) -> None:
    """2 * sigmoid: no change where the score is 0."""
    unit = PEPNet(**PEPNET).choice
    with torch.no_grad():
        unit.scores.weight.zero_()
        unit.scores.bias.fill_(score)
        assert unit(torch.randn(5, 17)).unique().tolist() == [scale]


def test_pepnets_gates_teach_what_they_stop_at_nothing() -> None:
    """Neither the features through the choice's gate nor the chosen ones through a layer's gate get a gradient."""
    network = PEPNet(**PEPNET)
    with torch.no_grad():  # the only ways left lead through the gates
        network.layers[0].weight.zero_()
        for unit in network.gates:
            unit.hidden.weight[:, :, :14].zero_()  # what reads the prior x, which is not stopped
    network(*rows()).sum().backward()
    assert not network.embedding.weight.grad.any()
    assert network.gates[0].hidden.weight.grad[:, :, 14:].any()


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_every_parameter_is_trained(make: Any) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(make()) == []


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_row_does_not_depend_on_its_batch(make: Any) -> None:
    """Once trained, scored alone or among others, a row gets the same logits."""
    network = make().train()
    network(*rows())
    torch.testing.assert_close(network.eval()(*rows()), plain_blocks.alone(network), rtol=0, atol=1e-6)
