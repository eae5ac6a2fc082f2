"""The optimizers: Adam, with its weight decay in the gradient."""

import copy

import pytest
import torch

from models.networks.feature_embedding import FeatureEmbedding
from models.networks.shared_bottom import SharedBottom, SharedBottomConfig
from models.training.optim import optimizers
from tests.support.training import DATA, RECIPE, recipe_with, small_hinet

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]


def test_adam_is_adam_with_the_decay_in_the_gradient() -> None:
    """One step equals Adam's formula on gradient + decay * weight, with the embeddings' decay or that of the rest."""
    network = SharedBottom(DATA, SharedBottomConfig(embedding_width=4, bottom_units=(4,), tower_units=(4,)))
    recipe = recipe_with(embedding_weight_decay=0.3, weight_decay=0.1)
    optimizer, before = optimizers(network, recipe)[0], copy.deepcopy(dict(network.named_parameters()))
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        decay = 0.3 if name == "embedding.weight" else 0.1
        gradient = parameter.grad + decay * before[name]
        step = (
            recipe.learning_rate * gradient / (gradient.abs() + 1e-8)
        )  # first step: both averages of Adam are unbiased
        torch.testing.assert_close(parameter, before[name] - step)


def test_the_first_group_holds_the_embeddings_and_nothing_else() -> None:
    """Wherever they are in the network; all other parameters are in the second group."""
    network = small_hinet()
    embeddings, rest = (group["params"] for group in optimizers(network, RECIPE)[0].param_groups)
    assert [weight is network.embedding.weight for weight in embeddings] == [True]
    assert isinstance(network.embedding, FeatureEmbedding)
    assert len(embeddings) + len(rest) == len(list(network.parameters()))
