"""The networks that HiNet has to beat, against the same network written plainly."""

import doctest
from typing import Any

import pytest
import torch
from torch import Tensor

from models import baselines
from models.baselines import SharedBottom

SHAPE: dict[str, Any] = {
    "table_rows": (9, 6), "categorical_tables": (0, 1), "bag_tables": (1,), "bag_lengths": (3,), "numeric": 2,
    "scenarios": 3, "tasks": 2, "embedding_width": 4, "bottom_units": (8, 6), "tower_units": (5,),
}  # fmt: skip


def rows(count: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random rows of SHAPE: categorical, bags, numeric, scenario."""
    random = torch.Generator().manual_seed(1)
    return (
        torch.randint(0, 6, (count, 2), generator=random, dtype=torch.int32),
        torch.randint(-1, 6, (count, 3), generator=random, dtype=torch.int32),
        torch.randn(count, 2, generator=random),
        torch.arange(count, dtype=torch.int32) % 3,
    )


def dense(layer: Any, index: int, x: Tensor) -> Tensor:
    """One layer of a stack as a plain product."""
    return x @ layer.weight[index].T + layer.bias[index]


def test_the_examples_in_the_docstrings_run() -> None:
    """Every example in the documentation of the baselines gives what it says."""
    assert doctest.testmod(baselines).failed == 0


@pytest.mark.parametrize("heads", [False, True])
def test_shared_bottom_is_one_perceptron_and_towers(heads: bool) -> None:
    """Logits equal bottom and towers computed one after the other, per task or per scenario and task."""
    torch.manual_seed(0)
    network = SharedBottom(**SHAPE, scenario_heads=heads)
    categorical, bags, numeric, scenario = rows()
    x = network.embedding(categorical, bags, numeric)
    for layer in network.bottom.layers:
        x = torch.relu(dense(layer, 0, x))
    found = network(categorical, bags, numeric, scenario)
    for row, i in enumerate(scenario.tolist()):
        for task in range(2):
            tower = i * 2 + task if heads else task
            hidden = torch.relu(dense(network.towers.hidden.layers[0], tower, x[row]))
            torch.testing.assert_close(found[row, task], dense(network.towers.logits, tower, hidden)[0])


def test_every_parameter_of_shared_bottom_is_trained() -> None:
    """A batch leaves a gradient in every parameter."""
    network = SharedBottom(**SHAPE)
    network(*rows()).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
