"""A small HiNet and random rows for it: what the tests of HiNet and its options have in common."""

from typing import Any

import torch
from torch import Tensor

from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig

ROWS, SCENARIOS, TASKS, NUMERIC = 40, 4, 2, 4
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


def data_spec(scenarios: int = SCENARIOS) -> DataSpec:
    """The data of `rows`: three categorical columns, two bags, four numbers."""
    return DataSpec(
        table_rows=(11, 7, 5),
        categorical_tables=(0, 1, 1),
        bag_tables=(2, 0),
        bag_lengths=(3, 2),
        numeric=NUMERIC,
        scenarios=scenarios,
        task_outputs=(1,) * TASKS,
    )


def network(*, scenarios: int = SCENARIOS, **options: Any) -> HiNet:
    """A small HiNet with weights that are far from zero; `options` are fields of HiNetConfig."""
    torch.manual_seed(3)
    made = HiNet(data_spec(scenarios), HiNetConfig(**CONFIG | options))
    with torch.no_grad():
        made.embedding.weight.normal_()
    return made


def rows(scenarios: int = SCENARIOS, count: int = ROWS) -> dict[str, Tensor]:
    """Random rows for `network`."""
    random = torch.Generator().manual_seed(4)
    return {
        "categorical": torch.randint(0, 7, (count, 3), generator=random, dtype=torch.int32),
        "bags": torch.randint(-1, 5, (count, 5), generator=random, dtype=torch.int32),
        "numeric": torch.randn(count, NUMERIC, generator=random),
        "scenario": torch.arange(count, dtype=torch.int32) % scenarios,
    }
