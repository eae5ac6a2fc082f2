"""models/peers/mlp_per_scenario.py: the network equals the perceptron of each row's own scenario."""

import doctest

import pytest
import torch

from models.peers import mlp_per_scenario
from models.peers.mlp_per_scenario import MLPPerScenario, MLPPerScenarioConfig
from tests.support import plain_blocks
from tests.support.plain_blocks import DATA, WIDTH, rows

pytestmark = pytest.mark.unit


def network() -> MLPPerScenario:
    """A small network."""
    return MLPPerScenario(DATA, MLPPerScenarioConfig(embedding_width=WIDTH, units=(8, 6)))


def test_the_example_in_the_docstring_runs() -> None:
    """The example in the documentation has the stated result."""
    assert doctest.testmod(mlp_per_scenario).failed == 0


def test_mlp_per_scenario_is_the_perceptron_of_the_rows_scenario() -> None:
    """The logits of a row are those of its scenario's perceptron."""
    made = plain_blocks.with_random_weights(network())
    x, logits, scenarios, _ = plain_blocks.scored(made)
    layers = [made.hidden, made.logits]
    expected = [plain_blocks.apply(layers, i, row) for i, row in zip(scenarios, x, strict=True)]
    torch.testing.assert_close(logits, torch.stack(expected))


def test_rows_train_no_other_scenarios_perceptron() -> None:
    """Rows of scenario 1 leave exactly no gradient in the perceptrons of 0 and 2."""
    made = network()
    parameters = [*made.hidden.parameters(), *made.logits.parameters()]
    assert plain_blocks.trained_scenarios(made, parameters) == [False, True, False]


def test_every_parameter_is_trained() -> None:
    """A batch with rows of every scenario leaves a gradient in every parameter."""
    torch.manual_seed(0)
    assert plain_blocks.untrained(network()) == []


def test_a_row_does_not_depend_on_its_batch() -> None:
    """Scored one by one or in a batch, rows have the same logits."""
    made = network()
    torch.testing.assert_close(made(*rows()), plain_blocks.scored_one_by_one(made), rtol=0, atol=1e-6)
