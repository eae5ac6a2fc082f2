"""A small HiNet and requests for it: one user, one scenario, many items. For the tests of the fused inference path."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from features.encoding.encoder import Batch
from models.inference.partial_activations import ColumnIndices
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig

DATA: dict[str, Any] = {
    "table_rows": (11, 7, 5),
    "categorical_tables": (0, 1, 1, 2),
    "bag_tables": (2, 0),
    "bag_lengths": (3, 2),
    "numeric": 4,
    "scenarios": 4,
    "task_outputs": (1, 1),
    "vectors": (),
}
CONFIG: dict[str, Any] = {
    "embedding_width": 4,
    "sub_experts": 3,
    "expert_units": (9, 6),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (8, 5),
    "tower_units": (7,),
    "scenario_width": 5,
}
# the second number is null where the third is 1
ITEM_COLUMNS = ColumnIndices(categorical=(1, 3), bags=(0,), numeric=(1, 2))
ROWS = 50


def network(**changes: Any) -> HiNet:
    """A small HiNet with other fields of DataSpec or HiNetConfig, whose logits are as large as trained ones."""
    torch.manual_seed(3)
    data = DATA | {name: value for name, value in changes.items() if name in DATA}
    config = CONFIG | {name: value for name, value in changes.items() if name not in DATA}
    made = HiNet(DataSpec(**data), HiNetConfig(**config))
    with torch.no_grad():
        for weight in (parameter for parameter in made.parameters() if parameter.dim() == 3):
            weight.normal_(std=(2 / weight.shape[2]) ** 0.5)
        made.embedding.weight.normal_()
    return made.eval()


def request(scenario: int, rows: int = ROWS) -> Batch:
    """Rows of random items with one random user, in one scenario."""
    random = np.random.default_rng(scenario)
    categorical = random.integers(0, 5, (rows, 4)).astype(np.int32)
    bags = random.integers(-1, 5, (rows, 5)).astype(np.int32)
    bags[0, :3] = -1  # an item with an empty bag
    numeric = random.normal(size=(rows, 4)).astype(np.float32)
    numeric[:, 2] = random.random(rows) < 0.3
    numeric[numeric[:, 2] == 1, 1] = 0
    categorical[:, [0, 2]], bags[:, 3:], numeric[:, [0, 3]] = categorical[0, [0, 2]], bags[0, 3:], numeric[0, [0, 3]]
    return Batch(categorical, bags, numeric, np.full(rows, scenario, np.int32))


def with_other_users(batch: Batch) -> Batch:
    """Rows of the same items with other users in other scenarios."""
    other = request(0, len(batch.scenario))
    categorical, bags, numeric = (part.copy() for part in (other.categorical, other.bags, other.numeric))
    categorical[:, [1, 3]], bags[:, :3], numeric[:, 1:3] = (
        batch.categorical[:, [1, 3]],
        batch.bags[:, :3],
        batch.numeric[:, 1:3],
    )
    return Batch(categorical, bags, numeric, other.scenario)


def forward(made: HiNet, batch: Batch) -> Tensor:
    """The logits of the network's forward."""
    with torch.inference_mode():
        return made(*(torch.from_numpy(part) for part in vars(batch).values()))
