"""params.train and the schema become the arguments of networks, hyperparameters and loss weights."""

import pytest
import torch

from common.errors import ParameterError
from features.encoding.encoder import Encoder
from models.model_folder import NETWORKS, build_network
from models.training.configuration import arguments_of, cell_weights, recipe_of
from tests.support import travel_log, world
from tests.support.training import encoded_world, train_settings

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """The encoder of the tiny world."""
    return Encoder.read(encoded_world(tmp_path_factory.mktemp("world"), rows=300)["encoder"])


def test_arguments_are_the_rows_and_the_models_own_section(encoder: Encoder) -> None:
    """Every network gets the shape of the rows and its section of params.train, and nothing else."""
    arguments = arguments_of("shared_bottom", encoder.layout, world.schema().tasks, train_settings())
    shape = {"table_rows", "categorical_tables", "bag_tables", "bag_lengths", "numeric", "scenarios"}
    assert set(arguments) == {"data", "config"}
    assert set(arguments["data"]) == shape | {"task_outputs"}
    assert set(arguments["config"]) == {"embedding_width", "bottom_units", "tower_units"}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_logit_for_every_class(encoder: Encoder, name: str) -> None:
    """Classes of 3 and 4 and two choices: nine logits, in the scenario of the row."""
    layout = encoder.layout
    network = build_network(name, arguments_of(name, layout, travel_log.schema().tasks, train_settings()))
    columns, lists = len(layout.categorical_tables), sum(layout.bag_lengths)
    rows = (torch.zeros(5, columns).int(), torch.zeros(5, lists).int(), torch.zeros(5, layout.numeric))
    assert network(*rows, torch.arange(5).int() % layout.scenarios).shape == (5, 9)


def test_the_recipe_is_that_of_params() -> None:
    """Each field of the recipe has the value of the parameter of the same name."""
    recipe = recipe_of(train_settings(average=0.5))
    assert recipe.average == 0.5
    assert all(value == getattr(train_settings(average=0.5), name) for name, value in vars(recipe).items())


def test_weights_of_tasks_are_lambdas_of_every_scenario() -> None:
    """A task's weight holds in each scenario, 1 where none is given; an unknown task is refused."""
    weights = cell_weights(world.schema(), train_settings(task_weights={"order": 2.5}))
    assert weights.tolist() == [[1.0, 2.5]] * 3
    with pytest.raises(ParameterError, match=r"train\.task_weights names \['oder'\]"):
        cell_weights(world.schema(), train_settings(task_weights={"oder": 2.5}))
