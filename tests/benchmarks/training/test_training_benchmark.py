"""The speed benchmark: what it compares is the same network, and every figure of its report is measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.training import benchmark
from benchmarks.training.loop import LoopHiNet, in_memory, loaded
from models.networks.cpu_kernels import ONEDNN_BFLOAT16
from models.networks.hinet import HiNet
from models.training.batches import Rows

SHAPE = {
    "sub_experts": 2,
    "expert_units": (6, 4),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (5,),
    "tower_units": (3,),
    "scenario_width": 4,
    "scenarios": 3,
}
IDS = 80


def copied(stacked: HiNet) -> LoopHiNet:
    """The loop with the weights of the stack."""
    plain = LoopHiNet(*benchmark.arguments(SHAPE, IDS))
    integration, control = stacked.integration, stacked.control
    for table, weight in zip(plain.tables, stacked.embedding.weight.split(IDS // benchmark.FIELDS), strict=True):
        table.weight.data.copy_(weight)
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


def test_the_loop_is_the_network() -> None:
    """With the same weights the loop over modules has the logits of the stacked network: a fair comparison."""
    torch.manual_seed(0)
    stacked = HiNet(*benchmark.arguments(SHAPE, IDS))
    rows = Rows(benchmark.random_rows(50, IDS // benchmark.FIELDS, 3), torch.device("cpu")).resident
    found = copied(stacked)(rows.categorical, rows.scenario)
    torch.testing.assert_close(found, stacked(*rows[:4]), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in copied(stacked).parameters()) == sum(p.numel() for p in stacked.parameters())


def test_both_ways_to_read_rows_give_rows() -> None:
    """The loader and the rows in memory give batches of the same shapes, out of the rows that there are."""
    rows = Rows(benchmark.random_rows(50, 10, 3), torch.device("cpu")).resident
    for batches in (loaded(rows, 16), in_memory(rows, 16)):
        categorical, scenario, labels = next(batches)
        assert (categorical.shape, scenario.shape, labels.shape) == ((16, 8), (16,), (16, 2))


def test_the_limit_counts_every_product_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit runs the three products of each stacked layer once: experts, gates and towers."""
    ran: list[tuple[int, int]] = []

    def noted(_: int, inputs: int, outputs: int, __: int) -> list[Callable[[], None]]:
        return [lambda: ran.append((inputs, outputs))] * 3

    monkeypatch.setattr(benchmark, "products_of_shape", noted)
    network = HiNet(*benchmark.arguments(SHAPE, IDS))
    benchmark.products(network, 16, 1)()
    experts, gates = 4 * 2 * 2 + (2 * 2 + 1) + 2, 4 + 2
    assert len(ran) == 3 * (experts + gates + 2)
    assert sum(i * o for i, o in ran) == 3 * sum(p.numel() for p in network.parameters() if p.dim() == 3)


def test_the_products_are_those_of_a_layer() -> None:
    """Of a layer's three products the first gives its outputs, the second its inputs' shape, the third its weight's."""
    shapes = [tuple(call().shape) for call in benchmark.products_of_shape(16, 5, 3, 1)]
    assert shapes == [(16, 3), (16, 5), (5, 3)]


def test_the_report_has_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny sizes the command measures each variant and sweep, prints them and writes them."""
    monkeypatch.setattr(benchmark, "BATCH", 32)
    monkeypatch.setattr(benchmark, "RECIPE", benchmark.dataclasses.replace(benchmark.RECIPE, batch_size=32))
    monkeypatch.setattr(benchmark, "SIZES", {"small, 3 scenarios": SHAPE})
    monkeypatch.setattr(benchmark, "IDS", (80, 160))
    monkeypatch.setattr(benchmark, "ON_DISK", (10_000,))
    benchmark.training(json=tmp_path / "t.json", rounds=1, rows=100)
    report = json.loads((tmp_path / "t.json").read_text())
    found = report["sizes"]["small, 3 scenarios"]
    assert set(found["samples_per_second"]) == {
        "ours",
        "loop and loader",
        "loop, rows in memory",
        "forward and backward",
        "limit",
        *(("ours, bfloat16",) if ONEDNN_BFLOAT16 else ()),
    }
    assert all(rate > 0 for rate in [*found["samples_per_second"].values(), *report["sweeps"].values()])
    assert all(found[name] > 0 for name in benchmark.RATIOS)
    assert report["memory_megabytes"]["10,000 rows"] > 0
    assert {"ids 160, lazy tables", "ids 160, dense tables", "threads 1"} <= set(report["sweeps"])
