"""params.train and the schema become the arguments of networks, hyperparameters and loss weights."""

from typing import Any

import pytest
import torch

from common.errors import ParameterError
from common.train_params import Train
from features.encoding.encoder import Encoder
from models.inference.exported import random_rows
from models.model_folder import NETWORKS, build_network
from models.training.configuration import arguments_of, cell_weights, recipe_of
from tests.support import travel_log, world
from tests.support.training import encoded_world, train_settings

pytestmark = pytest.mark.unit
NONE: dict[str, Any] = {"interactions": [], "cross_rank": 0}


def with_section(name: str, **changes: Any) -> Train:
    """params.train with other values in the section of one network."""
    section = getattr(train_settings(), name).model_dump() | changes
    return Train.model_validate(train_settings().model_dump() | {name: section})


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


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_the_additions_of_its_section(encoder: Encoder, name: str) -> None:
    """Any network reads the crossed features, and the interactions are added to its logits."""
    tasks, layout = world.schema().tasks, encoder.layout
    plain, crossed, added = (
        build_network(name, arguments_of(name, layout, tasks, with_section(name, **additions))).eval()
        for additions in (NONE, NONE | {"cross_rank": 3}, {"cross_rank": 3, "interactions": ["fm"]})
    )
    crossed.load_state_dict(plain.state_dict(), strict=False)
    added.load_state_dict(crossed.state_dict(), strict=False)
    rows = random_rows(layout, 7)
    x = plain.embedding(*rows[:3])
    torch.testing.assert_close(added.embedding(*rows[:3]), crossed.embedding.cross(x))
    expected = crossed(*rows) + added.additions.interactions["fm"](added.embedding(*rows[:3]))
    torch.testing.assert_close(added(*rows), expected)
    assert not torch.equal(crossed(*rows), plain(*rows))


def test_a_network_may_have_a_recipe_of_its_own() -> None:
    """Its values replace the common ones, for this network only."""
    settings = with_section("mmoe", recipe={"learning_rate": 0.5, "rare_id_rows": 7.0})
    changed = settings.of_network("mmoe")
    assert (changed.learning_rate, changed.rare_id_rows, changed.epochs) == (0.5, 7.0, settings.epochs)
    assert settings.of_network("ple").learning_rate == settings.learning_rate


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"learning_rat": 0.5}, "learning_rat"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"hinet": {}}, r"mmoe\.recipe: \['hinet'\] are networks"),
    ],
)
def test_a_recipe_that_no_training_could_have_is_refused(recipe: dict[str, Any], named: str) -> None:
    """The error names the parameter, before any data are read."""
    with pytest.raises(ValueError, match=named):
        with_section("mmoe", recipe=recipe)


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
