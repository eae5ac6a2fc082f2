"""Benchmark: what Prefect costs, as the time of the same tiny graph by `dvc repro` and by the flow.

    python -m benchmarks.pipeline.overhead --stages 15 --json overhead.json

The graph is a chain of stages that do nothing, all out of date or all up to date, so that everything measured is
overhead. The flow uses a real server that is running already. Each figure is the median of `--times`; the two
alternate. `--folder` measures instead an idle run of the pipeline in that folder (made up to date before), and fails
where an idle `dvc repro` takes more than 10 s.
"""

import argparse
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.small_project import clone
from benchmarks.pipeline.stack import Stack, stack
from common.yaml_file import dump_yaml

REPRO = (sys.executable, "-m", "dvc", "repro")
CLOCKS = ("the clock", "a processor")
FLOW = (sys.executable, "-m", "flows.pipeline", "--again", "--no-release")
IDLE_LIMIT_SECONDS = 10.0  # of an idle `dvc repro`, on the clock

Figures = dict[str, dict[str, float]]  # seconds by command and clock


def chain(folder: Path, stages: int) -> Path:
    """The project with a chain of stages that copy one word."""
    workspace = clone(folder)
    (workspace / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    names = ["word", *(f"copy{number}" for number in range(1, stages + 1))]
    copies = {new: {"cmd": f"cp {old} {new}", "deps": [old], "outs": [new]} for old, new in itertools.pairwise(names)}
    (workspace / "dvc.yaml").write_text(dump_yaml({"stages": copies}), encoding="utf-8")
    return workspace


def seconds_of(stack: Stack, command: tuple[str, ...]) -> tuple[float, float]:
    """The time of a command in the workspace: on the clock, and of a processor (its children included)."""
    started, used = time.perf_counter(), processor_seconds()
    stack.run(*command)
    return time.perf_counter() - started, processor_seconds() - used


def processor_seconds() -> float:
    """Processor time of every child that has ended, thus without server and worker."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(stack: Stack, times: int, *, change: bool) -> Figures:
    """Medians of both commands, which alternate; `change`: every stage is out of date before each."""
    measured: dict[str, list[tuple[float, float]]] = {"dvc repro": [], "flow": []}
    for number in range(times):
        for name, command in (("dvc repro", REPRO), ("flow", FLOW)):
            if change:
                (stack.workspace / "word").write_text(f"{name} {number} {time.time_ns()}\n")
            measured[name].append(seconds_of(stack, command))
    return {
        name: dict(zip(CLOCKS, map(statistics.median, zip(*pairs, strict=True)), strict=True))
        for name, pairs in measured.items()
    }


def main() -> int:
    """Measure both, out of date and idle; 1 where an idle run of the pipeline took too long."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.overhead", description=__doc__)
    parser.add_argument("--stages", type=int, default=15)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a project that is up to date: only its idle run")
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        workspace = chosen.folder or chain(Path(scratch) / "workspace", chosen.stages)
        with stack(workspace.resolve(), Path(scratch) / "prefect") as made:
            figures = {} if chosen.folder else {"all out of date": measure(made, chosen.times, change=True)}
            figures["nothing to do"] = measure(made, chosen.times, change=False)
    chosen.json.write_text(json.dumps({"stages": chosen.stages} | figures, indent=1))
    show(figures, None if chosen.folder else chosen.stages)
    idle = figures["nothing to do"]["dvc repro"][CLOCKS[0]]
    return int(bool(chosen.folder) and idle > IDLE_LIMIT_SECONDS)


def show(figures: dict[str, Figures], stages: int | None) -> None:
    """Print the table; per stage, where their number is known."""
    table = Table("run", "seconds of", "dvc repro", "flow", "more", "more per stage")
    for name, both in figures.items():
        for clock in CLOCKS:
            repro, flow = both["dvc repro"][clock], both["flow"][clock]
            each = f"{(flow - repro) / stages:.2f}" if stages else ""
            table.add_row(name, clock, f"{repro:.1f}", f"{flow:.1f}", f"{flow - repro:.1f}", each)
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
