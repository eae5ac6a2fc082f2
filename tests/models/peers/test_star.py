"""models/peers/star.py: the network equals the paper's formula, one row at a time."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor

from features.encoding.tensors import Tensors
from models.evaluation.predict import predict
from models.peers import star
from models.peers.star import STAR, PartitionedNorm, STARConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, TASKS, WIDTH, rows

pytestmark = pytest.mark.unit


def network(*, norm: bool = True) -> STAR:
    """A small network."""
    config = STARConfig(
        embedding_width=WIDTH, units=(8, 6), auxiliary_units=(5,), scenario_width=3, partitioned_norm=norm
    )
    return STAR(DATA, config)


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation has the stated result."""
    assert doctest.testmod(star).failed == 0


def plain_row(made: STAR, x: Tensor, normal: Tensor, s: int) -> Tensor:
    """Logits [T] of a row of scenario s from its features x [D] and the normalised ones."""
    for layer in made.star:
        weight = layer.weight[s] * layer.shared.weight[0]
        normal = weight @ normal + layer.bias[s] + layer.shared.bias[0]
        normal = torch.relu(normal) if layer.relu else normal
    return normal + plain_blocks.apply(made.auxiliary, 0, torch.cat([x, made.scenario.weight[s]]))


@pytest.mark.parametrize("norm", [False, True])
def test_star_is_the_papers_formula(norm: bool) -> None:
    """Each layer's weights are those of the scenario times the shared ones; the auxiliary network is added."""
    made = plain_blocks.with_random_weights(network(norm=norm))
    x, logits, scenarios, scenario = plain_blocks.scored(made)
    normal = made.norm(x, scenario) if norm else x
    expected = [plain_row(made, *row) for row in zip(x, normal, scenarios, strict=True)]
    torch.testing.assert_close(logits, torch.stack(expected))


def test_rows_train_no_other_scenarios_weights() -> None:
    """Rows of scenario 1 leave no gradient in the weights, norms and embeddings of 0 and 2."""
    made = network().train()
    parameters = [parameter for layer in made.star for parameter in (layer.weight, layer.bias)]
    parameters += [made.norm.scale, made.norm.shift, made.scenario.weight]
    assert plain_blocks.trained_scenarios(made, parameters) == [False, True, False]


def test_a_batch_is_normalised_by_scenario() -> None:
    """In training the rows of each scenario have mean 0 and deviation 1 before scale and shift."""
    norm = PartitionedNorm(scenarios=3, width=4, epsilon=1e-12).double()
    scenario = torch.arange(60) % 3
    x = torch.randn(60, 4, dtype=torch.double) * (scenario + 1).unsqueeze(1) + 10 * scenario.unsqueeze(1)
    normal = norm(x, scenario)
    for s in range(3):
        own = normal[scenario == s]
        torch.testing.assert_close(own.mean(dim=0), torch.zeros(4, dtype=torch.double), atol=1e-9, rtol=0)
        torch.testing.assert_close(own.var(dim=0, correction=0), torch.ones(4, dtype=torch.double))


def test_scales_multiply_and_shifts_add_up() -> None:
    """The scale is that of all scenarios times that of the row's, the shift the sum of both."""
    norm = PartitionedNorm(scenarios=2, width=1, epsilon=0.0).eval()
    with torch.no_grad():
        norm.shared_scale.fill_(3.0)
        norm.scale[1] = 5.0
        norm.shared_shift.fill_(7.0)
        norm.shift[1] = 11.0
    assert norm(torch.ones(2, 1), torch.tensor([0, 1])).tolist() == [[3 + 7.0], [15 + 18.0]]


def test_moving_statistics_are_the_mean_over_the_batches() -> None:
    """At first each scenario's moving statistics are the plain means of its batches'; then they move by `momentum`."""
    norm, batches = PartitionedNorm(scenarios=2, width=3, momentum=0.25).double(), []
    for _ in range(4):
        x = torch.randn(10, 3, dtype=torch.double)
        norm(x, torch.zeros(10).long())
        batches.append(x)
    torch.testing.assert_close(norm.mean[0], torch.stack([x.mean(dim=0) for x in batches]).mean(dim=0))
    variances = torch.stack([x.var(dim=0, correction=0) for x in batches])
    torch.testing.assert_close(norm.variance[0], variances.mean(dim=0))
    before = norm.mean[0].clone()
    norm(torch.full((10, 3), 2.0, dtype=torch.double), torch.zeros(10).long())
    torch.testing.assert_close(norm.mean[0], 0.75 * before + 0.25 * 2)
    assert norm.mean[1].tolist() == [0, 0, 0]  # no rows, no change
    assert norm.variance[1].tolist() == [1, 1, 1]


def test_predict_scores_with_the_moving_statistics() -> None:
    """A network in training mode is not normalised by the rows that are scored."""
    made, (categorical, bags, numeric, scenario) = network().train(), rows()
    in_training, in_scoring = made(*rows()), made.eval()(*rows())
    tensors = Tensors(
        *(column.numpy() for column in (categorical, bags, numeric, scenario)),
        labels=np.zeros((20, TASKS), np.float32),
        event_id=np.arange(20),
        user=np.arange(20),
    )
    logits = torch.from_numpy(predict(made.train(), tensors, "star"))
    torch.testing.assert_close(logits, in_scoring)
    assert not torch.allclose(logits, in_training)


@pytest.mark.parametrize("norm", [False, True])
def test_every_parameter_is_trained(norm: bool) -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network(norm=norm)) == []


@pytest.mark.parametrize("norm", [False, True])
def test_a_row_does_not_depend_on_its_batch(norm: bool) -> None:
    """Once trained, rows have the same logits one by one and in a batch."""
    made = network(norm=norm).train()
    made(*rows())
    torch.testing.assert_close(made.eval()(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
