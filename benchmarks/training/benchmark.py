"""Benchmark: how fast HiNet learns, against the loop that others write and against the machine's limit.

    python -m benchmarks.training.benchmark --json training.json

All of it in one run, on the same rows and sizes, the variants in turns, so that a noisy machine is noisy for all; a
figure is the median of the turns, a ratio the median of the ratios within a turn. The limit is what plain matrix
products of the same shapes take, forward and backward, by the faster of torch's two libraries for each shape; it has
its turn beside the others.
"""

import dataclasses
import json as jsonlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.training import loop
from benchmarks.training.memory import anonymous_megabytes
from common import stage
from features.encoding.tensors import Tensors
from models.networks.cpu_kernels import ONEDNN, ONEDNN_BFLOAT16
from models.networks.hinet import HiNet
from models.networks.layers import FeatureEmbedding, StackedLinear
from models.training.batches import Part, Rows
from models.training.loop import ALONE, Fitting, repeatable
from models.training.loss import weighted_loss
from models.training.optim import Recipe
from models.training.train_state import State

FIELDS, WIDTH, TASKS = 8, 16, 2
BATCH, ROWS, ROUNDS = 4096, 200_000, 15
BATCHES, IDS = (512, 2048, 4096, 16384), (10_000, 1_000_000, 10_000_000)  # of the sweeps
ON_DISK = (2_000_000, 8_000_000, 32_000_000)  # rows whose pass is measured
AUTHORS: dict[str, Any] = {
    "sub_experts": 5,
    "expert_units": (128, 64),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (128, 64),
    "tower_units": (128, 64),
    "scenario_width": 64,
}
SMALL: dict[str, Any] = {
    "sub_experts": 2,
    "expert_units": (64, 32),
    "task_experts": 2,
    "shared_experts": 2,
    "task_expert_units": (64, 32),
    "tower_units": (64, 32),
    "scenario_width": 16,
}
RECIPE = Recipe(
    seed=1,
    epochs=1,
    patience=1,
    batch_size=BATCH,
    learning_rate=1e-3,
    table_weight_decay=1e-4,
    weight_decay=1e-5,
    average=0.995,
    unknown_share=0.02,
)
SIZES = {
    "authors, 3 scenarios": {**AUTHORS, "scenarios": 3},
    "authors, 6 scenarios": {**AUTHORS, "scenarios": 6},
    "small, 3 scenarios": {**SMALL, "scenarios": 3},
}
RATIOS = {  # of seconds
    "against_loop_and_loader": ("loop and loader", "ours"),
    "against_loop_in_memory": ("loop, rows in memory", "ours"),
    "share_of_limit": ("limit", "ours"),
    "loading_share": ("loading", "ours"),
    "loading_against_loader": ("loader", "loading"),
}
NO_STEPS = {"loading", "loader"}  # only what a step begins with


def training(*, json: Path = Path("artifacts/training.json"), rounds: int = ROUNDS, rows: int = ROWS) -> None:
    """Measure every size and sweep, print the tables and write them to `json`."""
    threads = stage.threads()
    torch.set_num_threads(threads)
    report: dict[str, Any] = {"threads": threads, "batch_size": BATCH, "torch": torch.__version__}
    report["sizes"] = {name: size(shape, rows, rounds) for name, shape in SIZES.items()}
    report["sweeps"] = sweeps(rows, rounds, threads)
    report["memory_megabytes"] = anonymous_megabytes(ON_DISK)
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(jsonlib.dumps(report, indent=1) + "\n")
    show(report)


@dataclass(frozen=True)
class World:
    """Random rows, a network for them, and the loop that fits it."""

    rows: Rows
    fitting: Fitting

    @classmethod
    def of(cls, shape: dict[str, Any], rows: int, *, ids: int | None = None, **recipe: Any) -> "World":
        """Rows of FIELDS categorical fields with `ids` ids in all (default: the first of IDS), evenly drawn."""
        ids = ids or IDS[0]
        repeatable(1)
        state = State(HiNet(**arguments(shape, ids)), dataclasses.replace(RECIPE, **recipe), torch.device("cpu"))
        made = Rows(random_rows(rows, ids // FIELDS, shape["scenarios"]), state.device)
        return cls(made, Fitting(state, torch.ones(shape["scenarios"], TASKS), None, ALONE))

    @property
    def resident(self) -> Part:
        """The rows as tensors."""
        assert self.rows.resident is not None
        return self.rows.resident

    def parts(self) -> Iterator[Part]:
        """Shuffled batches, some ids hidden, for ever: what the loop reads."""
        recipe, state = self.fitting.recipe, self.fitting.state
        while True:
            for part in self.rows.shuffled(recipe.batch_size, torch.Generator().manual_seed(1)):
                if len(part.scenario) == recipe.batch_size:
                    yield part.hide(recipe.unknown_share, state.hidden)


def arguments(shape: dict[str, Any], ids: int) -> dict[str, Any]:
    """HiNet's arguments for rows of FIELDS categorical fields."""
    inputs = {
        "table_rows": (ids // FIELDS,) * FIELDS,
        "categorical_tables": tuple(range(FIELDS)),
        "bag_tables": (),
        "bag_lengths": (),
        "numeric": 0,
        "tasks": TASKS,
        "embedding_width": WIDTH,
        "scenario_heads": False,
    }
    return {**inputs, **shape}


def random_rows(rows: int, ids: int, scenarios: int) -> Tensors:
    """Encoded rows whose ids, scenarios and labels are drawn evenly."""
    random = np.random.default_rng(1)
    return Tensors(
        categorical=random.integers(0, ids, (rows, FIELDS), dtype=np.int32),
        bags=np.empty((rows, 0), np.int32),
        numeric=np.empty((rows, 0), np.float32),
        scenario=random.integers(0, scenarios, rows, dtype=np.int32),
        labels=random.integers(0, 2, (rows, TASKS)).astype(np.float32),
        event_id=np.arange(rows),
        user=np.arange(rows),
    )


def size(shape: dict[str, Any], rows: int, rounds: int) -> dict[str, Any]:
    """Samples/s of every variant, the share of loading, the ratios and the share of the limit, at one size.

    The variant in bfloat16 is left out where the processor does not have it.
    """
    world = World.of(shape, rows)
    parts = world.parts()
    by_loader, held = (
        loop.Elsewhere(arguments(shape, IDS[0]), world.resident, BATCH, by_loader=way) for way in (True, False)
    )
    fixed, row_by_row = next(parts), loop.loaded(world.resident, BATCH)
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: world.fitting.step(next(parts)),
        "forward and backward": lambda: forward_and_backward(world, fixed),
        "loading": lambda: next(parts),
        "limit": products(world.fitting.state.network, BATCH, rounds),
        "loader": lambda: next(row_by_row),
        "loop and loader": by_loader.step,
        "loop, rows in memory": held.step,
    }
    if ONEDNN_BFLOAT16:
        halved = World.of(shape, rows, precision="bfloat16")
        variants["ours, bfloat16"] = lambda: halved.fitting.step(next(parts))
    turns = seconds_by_turn(variants, rounds)
    for elsewhere in (by_loader, held):
        elsewhere.end()
    rates = {name: round(BATCH / float(np.median(took))) for name, took in turns.items() if name not in NO_STEPS}
    return {
        "samples_per_second": rates,
        **{name: round(float(np.median(turns[a] / turns[b])), 4) for name, (a, b) in RATIOS.items()},
        "gflops": round(6 * dense_parameters(world.fitting.state.network) * rates["ours"] / 1e9, 1),
    }


def seconds_by_turn(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Seconds of each variant [rounds]: in a turn each is called once after the other; a first turn is not counted."""
    for call in variants.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, call in variants.items():
            started = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in found.items()}


def in_turns(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each variant over `rounds` turns."""
    return {name: float(np.median(values)) for name, values in seconds_by_turn(variants, rounds).items()}


def forward_and_backward(world: World, part: Part) -> None:
    """Of the network on one batch that is there already; no optimizer, no average."""
    network = world.fitting.state.network
    network.zero_grad(set_to_none=True)
    weighted_loss(network(*part[:4]), part.labels, part.scenario, world.fitting.cell_weights).backward()


def dense_parameters(network: nn.Module) -> int:
    """Parameters outside the embedding tables: a row costs about 6 operations for each, forward and backward."""
    tables = sum(module.weight.numel() for module in network.modules() if isinstance(module, FeatureEmbedding))
    return sum(parameter.numel() for parameter in network.parameters()) - tables


def products(network: nn.Module, batch: int, rounds: int) -> Callable[[], None]:
    """All of the network's matrix products once: forward, gradient of the rows, gradient of the weights.

    Products of a shape read the same operands, each as its kernel likes them best.
    """
    shapes = [module.weight.shape for module in network.modules() if isinstance(module, StackedLinear)]
    of_shape = {shape[1:]: products_of_shape(batch, shape[2], shape[1], rounds) for shape in set(shapes)}
    calls = [call for shape in shapes for call in of_shape[shape[1:]] * shape[0]]

    def run() -> None:
        for call in calls:
            call()

    return run


def products_of_shape(batch: int, inputs: int, outputs: int, rounds: int) -> list[Callable[[], Tensor]]:
    """Products y = x W, dx = dy W^T and dW = x^T dy of one layer, each by the faster kernel."""
    x, dy, weight = torch.randn(batch, inputs), torch.randn(batch, outputs), torch.randn(inputs, outputs)
    operands = ((x, weight), (dy, weight.t().contiguous()), (x.t().contiguous(), dy))
    found = []
    for a, b in operands:
        kernels = _kernels(a, b)
        seconds = in_turns(kernels, max(rounds, 5))
        found.append(kernels[min(seconds, key=lambda name: seconds[name])])
    return found


def _kernels(a: Tensor, b: Tensor) -> dict[str, Callable[[], Tensor]]:
    turned = b.t().contiguous()
    kernels: dict[str, Callable[[], Tensor]] = {"mm": lambda: a @ b}
    if ONEDNN:
        kernels["onednn"] = lambda: torch.ops.mkldnn._linear_pointwise(a, turned, None, "none", [], "")
    return kernels


def sweeps(rows: int, rounds: int, threads: int) -> dict[str, float]:
    """Steps/s of the small size against batch size, threads, scenarios and the size of the tables."""
    shape = SIZES["small, 3 scenarios"]
    found = {}
    for batch in BATCHES:
        found[f"batch {batch:,}"] = steps_per_second(World.of(shape, max(rows, 2 * batch), batch_size=batch), rounds)
    for scenarios in (1, 2, 3, 6, 12):
        found[f"scenarios {scenarios}"] = steps_per_second(World.of({**shape, "scenarios": scenarios}, rows), rounds)
    for ids in IDS:
        for kind in ("dense", "lazy"):
            world = World.of(shape, rows, ids=ids, lazy_tables=kind == "lazy")
            found[f"ids {ids:,}, {kind} tables"] = steps_per_second(world, rounds)
    for count in range(1, threads + 1):
        torch.set_num_threads(count)
        found[f"threads {count}"] = steps_per_second(World.of(shape, rows), rounds)
    return found


def steps_per_second(world: World, rounds: int) -> float:
    """Of our loop, all of a step included."""
    parts = world.parts()
    return round(1 / in_turns({"ours": lambda: world.fitting.step(next(parts))}, rounds)["ours"], 2)


def show(report: dict[str, Any]) -> None:
    """Print what was measured."""
    console, sizes = Console(width=110), report["sizes"]
    table = Table("", *sizes, title=f"samples/s, batches of {report['batch_size']}, {report['threads']} threads")
    for name in next(iter(sizes.values()))["samples_per_second"]:
        table.add_row(name, *(f"{found['samples_per_second'][name]:,}" for found in sizes.values()))
    for name in (*RATIOS, "gflops"):
        table.add_row(name.replace("_", " "), *(f"{found[name]:.3g}" for found in sizes.values()))
    console.print(table)
    steps = Table("small, 3 scenarios", "steps/s")
    for name, value in report["sweeps"].items():
        steps.add_row(name, f"{value:g}")
    console.print(steps)
    console.print("memory of a pass over rows on disk:", report["memory_megabytes"], "MB")


if __name__ == "__main__":
    stage.run(training)
