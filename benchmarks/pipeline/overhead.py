"""What Prefect costs: the same tiny graph by `dvc repro` and by the flow, from nothing and with nothing to do.

    python -m benchmarks.pipeline.overhead --stages 15 --json overhead.json

A chain of stages that do nothing, so that everything measured is overhead; the flow talks to a real server that is
running already. Each figure is the median of `--times`; the two are measured in turn. `--folder` measures instead an
idle run of the pipeline that lies there (made up to date before).
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

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.stack import Stack, stack
from benchmarks.pipeline.watch import clone

REPRO = (sys.executable, "-m", "dvc", "repro")
CLOCKS = ("the clock", "a processor")
FLOW = (sys.executable, "-m", "flows.pipeline", "--again", "--no-release")


def chain(folder: Path, stages: int) -> Path:
    """The project with a chain of stages that copy one word."""
    workspace = clone(folder)
    (workspace / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    names = ["word", *(f"copy{number}" for number in range(1, stages + 1))]
    plain = {new: {"cmd": f"cp {old} {new}", "deps": [old], "outs": [new]} for old, new in itertools.pairwise(names)}
    (workspace / "dvc.yaml").write_text(yaml.safe_dump({"stages": plain}, sort_keys=False))
    return workspace


def seconds(made: Stack, command: tuple[str, ...]) -> tuple[float, float]:
    """How long a command takes in the workspace: on the clock, and of a processor (its children included)."""
    started, used = time.perf_counter(), processor()
    made.run(*command)
    return time.perf_counter() - started, processor() - used


def processor() -> float:
    """Processor seconds of every child that has ended; server and worker run on, and are not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(made: Stack, times: int, *, change: bool) -> dict[str, dict[str, float]]:
    """Medians of both, in turn; `change`: everything is stale before each."""
    found: dict[str, list[tuple[float, float]]] = {"dvc repro": [], "flow": []}
    for number in range(times):
        for name, command in (("dvc repro", REPRO), ("flow", FLOW)):
            if change:
                (made.workspace / "word").write_text(f"{name} {number} {time.time_ns()}\n")
            found[name].append(seconds(made, command))
    return {
        name: dict(zip(CLOCKS, map(statistics.median, zip(*pairs, strict=True)), strict=True))
        for name, pairs in found.items()
    }


def main() -> None:
    """Both, stale and idle."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline.overhead", description=__doc__)
    parser.add_argument("--stages", type=int, default=15)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="a project that is up to date: its idle run alone")
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        workspace = chosen.folder or chain(Path(scratch) / "workspace", chosen.stages)
        with stack(workspace.resolve(), Path(scratch) / "prefect") as made:
            found = {} if chosen.folder else {"all stale": measure(made, chosen.times, change=True)}
            found["nothing to do"] = measure(made, chosen.times, change=False)
    chosen.json.write_text(json.dumps({"stages": chosen.stages} | found, indent=1))
    show(found, None if chosen.folder else chosen.stages)


def show(found: dict[str, dict[str, dict[str, float]]], stages: int | None) -> None:
    """The table; per stage, where it is known how many."""
    table = Table("run", "seconds of", "dvc repro", "flow", "more", "more per stage")
    for name, both in found.items():
        for clock in CLOCKS:
            repro, flow = both["dvc repro"][clock], both["flow"][clock]
            each = f"{(flow - repro) / stages:.2f}" if stages else ""
            table.add_row(name, clock, f"{repro:.1f}", f"{flow:.1f}", f"{flow - repro:.1f}", each)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
