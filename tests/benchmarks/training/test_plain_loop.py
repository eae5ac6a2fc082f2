"""The plain loop of the training benchmark is the same network, on the same rows."""

import pytest
import torch

from benchmarks.training import workload
from benchmarks.training.plain_loop import LoopHiNet, in_memory, row_by_row
from models.networks.hinet import HiNet
from models.training.batches import BatchLoader
from tests.support.small_shape import SHAPE

pytestmark = pytest.mark.unit
IDS = 80


def copied(stacked: HiNet) -> LoopHiNet:
    """The plain loop with the weights of the stacked network."""
    plain = LoopHiNet(*workload.arguments(SHAPE, IDS))
    integration, control = stacked.integration, stacked.control
    for embedding, weight in zip(plain.tables, stacked.embedding.weight.split(IDS // workload.FIELDS), strict=True):
        embedding.weight.data.copy_(weight)
    of_mixtures = [expert for mixture in plain.mixtures for expert in mixture.experts]
    for experts, layers in (
        (of_mixtures, integration.experts.layers),
        ([*(e for m in plain.of_tasks for e in m.experts), *plain.shared], control.experts.layers),
        ([tower[0] for tower in plain.towers], stacked.towers.hidden.layers),
        ([tower[1:] for tower in plain.towers], [stacked.towers.logits]),
    ):
        for e, expert in enumerate(experts):
            linears = [layer for layer in expert if isinstance(layer, torch.nn.Linear)]
            for linear, layer in zip(linears, layers, strict=True):
                linear.weight.data.copy_(layer.weight[e])
                linear.bias.data.copy_(layer.bias[e])
    for mixtures, gates in ((plain.mixtures, integration.gates), (plain.of_tasks, control.gates)):
        for mixture, weight in zip(mixtures, gates.logits.weight, strict=True):
            mixture.gate.weight.data.copy_(weight)
    plain.scenario.load_state_dict(stacked.scenario_attention.embedding.state_dict())
    plain.attention.load_state_dict(stacked.scenario_attention.logits.state_dict())
    return plain


def test_the_plain_loop_has_the_logits_of_the_network() -> None:
    """With the same weights the loop over modules has the logits of the stacked network: a fair comparison."""
    torch.manual_seed(0)
    stacked = HiNet(*workload.arguments(SHAPE, IDS))
    rows = BatchLoader(workload.random_rows(50, IDS // workload.FIELDS, 3), torch.device("cpu")).resident
    logits = copied(stacked)(rows.categorical, rows.scenario)
    torch.testing.assert_close(logits, stacked(*rows[:4]), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in copied(stacked).parameters()) == sum(p.numel() for p in stacked.parameters())


def test_loader_and_memory_give_batches_of_the_same_shapes() -> None:
    """The loader and the rows in memory give batches of the same shapes, out of the rows that there are."""
    rows = BatchLoader(workload.random_rows(50, 10, 3), torch.device("cpu")).resident
    for batches in (row_by_row(rows, 16), in_memory(rows, 16)):
        categorical, scenario, labels = next(batches)
        assert (categorical.shape, scenario.shape, labels.shape) == ((16, 8), (16,), (16, 2))
