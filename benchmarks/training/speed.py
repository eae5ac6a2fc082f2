"""The measurements of the training benchmark: samples/s by variant and size, steps/s of the sweeps."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.training import workload
from benchmarks.training.matrix_products import all_products, dense_parameters
from benchmarks.training.plain_loop import ChildLoop, row_by_row
from benchmarks.training.timing import median_seconds, seconds_by_turn
from benchmarks.training.workload import Workload, arguments
from models.networks.cpu_kernels import ONEDNN_BFLOAT16
from models.training.batches import TensorBatch
from models.training.loss import weighted_loss

RATIOS = {  # of seconds
    "against_loop_and_loader": ("loop and loader", "ours"),
    "against_loop_in_memory": ("loop, rows in memory", "ours"),
    "share_of_limit": ("limit", "ours"),
    "loading_share": ("loading", "ours"),
    "loading_against_loader": ("loader", "loading"),
}
NO_STEPS = {"loading", "loader"}  # variants that only load a batch


def measure_size(shape: dict[str, Any], rows: int, rounds: int) -> dict[str, Any]:
    """Samples/s of every variant, the share of loading, the ratios and the share of the limit, at one size.

    The variant in bfloat16 is left out where the processor does not have it.
    """
    load = Workload.of(shape, rows)
    batches, network = load.batches(), load.loop.state.network
    with_loader, in_memory = (
        ChildLoop(arguments(shape, workload.IDS[0]), load.resident, workload.BATCH, by_loader=by_loader)
        for by_loader in (True, False)
    )
    fixed, loader = next(batches), row_by_row(load.resident, workload.BATCH)
    variants: dict[str, Callable[[], Any]] = {
        "ours": lambda: load.loop.step(next(batches)),
        "forward and backward": lambda: forward_and_backward(load, fixed),
        "loading": lambda: next(batches),
        "limit": all_products(network, workload.BATCH, rounds),
        "loader": lambda: next(loader),
        "loop and loader": with_loader.step,
        "loop, rows in memory": in_memory.step,
    }
    if ONEDNN_BFLOAT16:
        bfloat16 = Workload.of(shape, rows, precision="bfloat16")
        variants["ours, bfloat16"] = lambda: bfloat16.loop.step(next(batches))
    turns = seconds_by_turn(variants, rounds)
    for child in (with_loader, in_memory):
        child.end()
    medians = {name: float(np.median(seconds)) for name, seconds in turns.items()}
    rates = {name: round(workload.BATCH / seconds) for name, seconds in medians.items() if name not in NO_STEPS}
    return {
        "samples_per_second": rates,
        **{name: round(float(np.median(turns[a] / turns[b])), 4) for name, (a, b) in RATIOS.items()},
        "gflops": round(6 * dense_parameters(network) * rates["ours"] / 1e9, 1),
    }


def forward_and_backward(load: Workload, batch: TensorBatch) -> None:
    """Forward and backward of the network on one batch in memory; no optimizer, no average."""
    network = load.loop.state.network
    network.zero_grad(set_to_none=True)
    loss = weighted_loss(network(*batch[:4]), batch.labels, batch.scenario, load.loop.cell_weights)
    loss.backward()  # type: ignore[no-untyped-call]


def measure_sweeps(rows: int, rounds: int, threads: int) -> dict[str, float]:
    """Steps/s of the small size by batch size, number of scenarios, size of the embeddings, and threads."""
    shape = workload.SIZES["small, 3 scenarios"]
    steps = {}
    for batch in workload.BATCHES:
        steps[f"batch {batch:,}"] = steps_per_second(Workload.of(shape, max(rows, 2 * batch), batch_size=batch), rounds)
    for scenarios in (1, 2, 3, 6, 12):
        steps[f"scenarios {scenarios}"] = steps_per_second(Workload.of({**shape, "scenarios": scenarios}, rows), rounds)
    for ids in workload.IDS:
        for kind in ("dense", "lazy"):
            load = Workload.of(shape, rows, ids=ids, sparse_embeddings=kind == "lazy")
            steps[f"ids {ids:,}, {kind} tables"] = steps_per_second(load, rounds)
    for count in range(1, threads + 1):
        torch.set_num_threads(count)
        steps[f"threads {count}"] = steps_per_second(Workload.of(shape, rows), rounds)
    return steps


def steps_per_second(load: Workload, rounds: int) -> float:
    """Steps/s of the training loop, loading included."""
    batches = load.batches()
    return round(1 / median_seconds({"ours": lambda: load.loop.step(next(batches))}, rounds)["ours"], 2)


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    console, sizes = Console(width=110), report["sizes"]
    table = Table("", *sizes, title=f"samples/s, batches of {report['batch_size']}, {report['threads']} threads")
    for name in next(iter(sizes.values()))["samples_per_second"]:
        table.add_row(name, *(f"{size['samples_per_second'][name]:,}" for size in sizes.values()))
    for name in (*RATIOS, "gflops"):
        table.add_row(name.replace("_", " "), *(f"{size[name]:.3g}" for size in sizes.values()))
    console.print(table)
    steps = Table("small, 3 scenarios", "steps/s")
    for name, value in report["sweeps"].items():
        steps.add_row(name, f"{value:g}")
    console.print(steps)
    console.print("memory of an epoch over rows on disk:", report["memory_megabytes"], "MB")
