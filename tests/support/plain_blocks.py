"""The blocks of the networks in plain loops, one row and one expert at a time: what the stacked ones must equal."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from models.networks.data_spec import DataSpec
from models.networks.layers import StackedExperts, StackedLinear, StackedNorm

SCENARIOS, TASKS = 3, 2
WIDTH = 4  # of the embeddings
DATA = DataSpec(
    table_rows=(9, 6),
    categorical_tables=(0, 1),
    bag_tables=(1,),
    bag_lengths=(3,),
    numeric=2,
    scenarios=SCENARIOS,
    task_outputs=(1,) * TASKS,
)


def rows(count: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random rows of DATA: categorical, bags, numeric, scenario."""
    random = torch.Generator().manual_seed(1)
    return (
        torch.randint(0, 6, (count, 2), generator=random, dtype=torch.int32),
        torch.randint(-1, 6, (count, 3), generator=random, dtype=torch.int32),
        torch.randn(count, 2, generator=random),
        torch.arange(count, dtype=torch.int32) % SCENARIOS,
    )


def with_random_weights(network: nn.Module) -> nn.Module:
    """The network in double precision, ready to score, with weights far from its initial ones."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.5)
    return network.double().eval()


def scored(network: nn.Module) -> tuple[Tensor, Tensor, list[int], Tensor]:
    """Features x, numbers [B, D], of the rows of DATA, their scenarios, and the logits [B, T] of `network`."""
    categorical, bags, numeric, scenario = rows()
    x = network.embedding(categorical, bags, numeric.double())
    return x, network(categorical, bags, numeric.double(), scenario), scenario.tolist(), scenario


def apply(layers: Iterable[nn.Module], index: int, x: Tensor) -> Tensor:
    """The output of perceptron `index` of a stack for one row."""
    for layer in layers:
        if isinstance(layer, StackedExperts):
            x = apply(layer.layers, index, x)
        elif isinstance(layer, StackedNorm):
            deviation = (x.var(correction=0) + 1e-5).sqrt()
            x = torch.relu((x - x.mean()) / deviation * layer.weight[index] + layer.bias[index])
        elif isinstance(layer, StackedLinear):
            x = layer.weight[index] @ x + (0 if layer.bias is None else layer.bias[index])
            x = torch.relu(x) if layer.relu else x
        else:
            raise TypeError(layer)
    return x


def mixture(logits: Tensor, values: list[Tensor]) -> Tensor:
    """Sum of softmax(logits) times the values."""
    return sum(w * v for w, v in zip(logits.softmax(0), values, strict=True))


def tower(towers: Any, index: int, x: Tensor) -> Tensor:
    """The logit of tower `index` for its input x."""
    return apply([towers.hidden, towers.logits], index, x)[0]


def untrained(network: nn.Module) -> list[str]:
    """The parameters without a gradient after a batch with rows of every scenario."""
    network.train()(*rows()).square().sum().backward()
    return [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def trained_scenarios(network: nn.Module, parameters: Iterable[Tensor], scenario: int = 1) -> list[bool]:
    """For each scenario, whether rows of `scenario` leave a gradient in its part of each of the parameters."""
    parameters = list(parameters)
    categorical, bags, numeric, scenarios = rows()
    network(categorical, bags, numeric, torch.full_like(scenarios, scenario)).square().sum().backward()
    parts = [parameter.grad.flatten().view(SCENARIOS, -1).abs().sum(dim=1) > 0 for parameter in parameters]
    assert all(torch.equal(part, parts[0]) for part in parts)
    return parts[0].tolist()


def scored_one_by_one(network: nn.Module) -> Tensor:
    """The logits of the rows of DATA, scored one by one."""
    network.eval()
    return torch.cat([network(*(column[b : b + 1] for column in rows())) for b in range(20)])
