"""A tiny size of HiNet for the tests of the training benchmark."""

from typing import Any

SHAPE: dict[str, Any] = {
    "sub_experts": 2,
    "expert_units": (6, 4),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (5,),
    "tower_units": (3,),
    "scenario_width": 4,
    "scenarios": 3,
}
