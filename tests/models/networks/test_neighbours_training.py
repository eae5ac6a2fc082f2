"""models/networks/neighbours.py in training: a case where the rows of a user say more than the user's id."""

import numpy as np
import pytest
import torch

from features.encoding.tensors import Tensors
from models.evaluation.metrics import auc
from models.evaluation.predict import predict
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig
from models.training.device import make_deterministic
from models.training.loop import fit
from models.training.optim import Recipe

pytestmark = pytest.mark.integration
DATA = DataSpec(
    table_rows=(1501, 21),
    categorical_tables=(0, 1),
    bag_tables=(),
    bag_lengths=(),
    numeric=0,
    scenarios=1,
    task_outputs=(1,),
)
RECIPE = Recipe(
    seed=1,
    epochs=3,
    patience=3,
    batch_size=250,
    learning_rate=0.01,
    embedding_weight_decay=1e-4,
    weight_decay=0,
    average=0.9,
    unknown_share=0.02,
)


def tensors(users: np.ndarray, items: np.ndarray, labels: np.ndarray) -> Tensors:
    """Rows of a user, an item and a label; one scenario."""
    count = len(users)
    return Tensors(
        categorical=np.stack([users, items], axis=1).astype(np.int32),
        bags=np.zeros((count, 0), np.int32),
        numeric=np.zeros((count, 0), np.float32),
        scenario=np.zeros(count, np.int32),
        labels=labels.astype(np.float32)[:, None],
        event_id=np.arange(count),
        user=users,
    )


def test_the_taste_of_users_with_few_rows_is_learned() -> None:
    """Users like the even items or the odd ones, and have five rows each: their ids say little, their rows all.

    A label is flipped with probability 0.05. After three epochs the network with neighbours is near the best possible
    AUC (0.95) on rows of the same users that were not trained on; the one without them is near chance.
    """
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(1, 1501), 6)
    items = np.concatenate([random.permutation(20)[:6] for _ in range(1500)]) + 1
    labels = ((users + items) % 2 == 0) ^ (random.random(len(users)) < 0.05)
    last = np.arange(len(users)) % 6 == 5
    train, test = (tensors(users[of], items[of], labels[of]) for of in (~last, last))
    aucs = {outcomes: _auc_after_training(train, test, outcomes) for outcomes in (0, 2)}
    assert aucs[2] > 0.9, aucs
    assert aucs[0] < 0.6, aucs


def _auc_after_training(train: Tensors, test: Tensors, outcomes: int) -> float:
    make_deterministic(1)
    config = HiNetConfig(
        embedding_width=4,
        neighbours=outcomes,
        sub_experts=1,
        expert_units=(8,),
        task_experts=1,
        shared_experts=1,
        task_expert_units=(8,),
        tower_units=(4,),
        scenario_width=4,
        interactions=("fm",),
    )
    network = HiNet(DATA, config)
    if outcomes:
        user, item = torch.from_numpy(train.categorical.copy()).T
        network.embedding.neighbours.set_training_rows(user, item, torch.from_numpy(train.labels[:, 0]).long())
    fit(network, train, test, RECIPE, scenarios=("all",), tasks=("click",), device="cpu")
    return auc(test.labels[:, 0], predict(network, test, "planted", silent=True)[:, 0])
