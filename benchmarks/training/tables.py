"""Benchmark: a training step by rows of the embeddings, processes, and what the processes do with the rows.

    nice python -m benchmarks.training.tables --json tables.json

The small size of HiNet, batches of 4,096, a thread for each process, over gloo on this machine. `dense`: every process
has all rows, and their gradients are summed; `sparse`: the rows that a batch names are exchanged
(train.sparse_embeddings); `sharded`: each process has its own rows (train.shard_embeddings). Wall times depend on what
else runs, CPU times much less. What would take more than half of the free memory is not run, and named.
"""

import json as jsonlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import stage
from common.files import write_text

KINDS: dict[str, dict[str, Any]] = {
    "dense": {},
    "sparse": {"sparse_embeddings": True},
    "sharded": {"shard_embeddings": True},
}
NUMBERS = {"dense": 6, "sparse": 4.5, "sharded": 6}  # of float32 for each number of a table, at the peak of a step
WIDTH, FREE = 16, 0.5  # of an embedding; share of the free memory that a run may take
WARM_UP = 2


def tables(
    *,
    json: Path = Path("artifacts/tables.json"),
    rows: list[int] | None = None,
    processes: list[int] | None = None,
    steps: int = 10,
) -> None:
    """Measure every kind at every number of rows and processes, print a line for each and write all to `json`.

    Args:
        json: file of the report.
        rows: rows of all embeddings together; default: a million and ten millions.
        processes: numbers of processes; default: 1, 2 and 4.
        steps: steps of each measurement.
    """
    import psutil

    report = []
    for count in rows or [1_000_000, 10_000_000]:
        for size in processes or [1, 2, 4]:
            for kind in KINDS if size > 1 else ("dense", "sparse"):
                run = {"rows": count, "processes": size, "kind": kind}
                need, free = memory_of(kind, count, size), FREE * psutil.virtual_memory().available
                report.append(run | (measure(run, steps) if need < free else {"not_run": f"{need / 1e9:.1f} GB"}))
                print(jsonlib.dumps(report[-1]), flush=True)
    write_text(json, jsonlib.dumps(report, indent=1) + "\n")


def memory_of(kind: str, rows: int, processes: int) -> float:
    """Bytes of the tables of all processes at the peak of a step; sharded ones are whole at the start."""
    table = 4.0 * WIDTH * rows
    if kind == "sharded":
        return max(NUMBERS[kind] * table, processes * table * 2)
    return NUMBERS[kind] * table * processes


def measure(run: dict[str, Any], steps: int) -> dict[str, float]:
    """Milliseconds and CPU milliseconds of a step, and memory in MB: the medians over the processes."""
    from torch.multiprocessing.spawn import spawn

    with tempfile.TemporaryDirectory() as folder:
        spawn(_member, args=(run, steps, folder), nprocs=run["processes"])  # type: ignore[no-untyped-call]
        results = [jsonlib.loads(file.read_text()) for file in Path(folder).glob("*.json")]
    return {name: round(statistics.median(result[name] for result in results), 1) for name in results[0]}


def _member(rank: int, run: dict[str, Any], steps: int, folder: str) -> None:
    """One process of the measurement: writes its result."""
    import torch
    import torch.distributed as dist

    from models.training.distributed import Group

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=run["processes"])
    result = _steps(run, steps, Group(rank, run["processes"]))
    Path(folder, f"{rank}.json").write_text(jsonlib.dumps(result), encoding="utf-8")
    dist.destroy_process_group()


def _steps(run: dict[str, Any], steps: int, group: Any) -> dict[str, float]:
    import torch

    from benchmarks.training.memory import anonymous_megabytes
    from benchmarks.training.workload import BATCH, SMALL, Workload

    shape, rows = {**SMALL, "scenarios": 3}, (steps + WARM_UP) * BATCH
    load = Workload.of(shape, rows, ids=run["rows"], group=group, **KINDS[run["kind"]])
    wall, cpu = [], []
    for share in load.rows.shares(load.loop.recipe.batch_size, torch.Generator().manual_seed(1)):
        started, worked = time.perf_counter(), time.process_time()
        load.loop.step(share.rows, share.share)
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - worked))
    middle = (statistics.median(times[WARM_UP:]) for times in (wall, cpu))
    return {**dict(zip(("step_ms", "cpu_ms"), middle, strict=True)), "megabytes": anonymous_megabytes()}


if __name__ == "__main__":
    stage.run(tables)
