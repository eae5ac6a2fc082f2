"""Benchmark: what the data stages cost in processor seconds and memory, by the size of the log.

    OMP_NUM_THREADS=1 python -m benchmarks.pipeline.stages --rows 500000,5000000 --json stages.json

Each stage is run by its command in dvc.yaml, in a folder with a simulated log of so many impressions and a user for
every 42 of them (dataset.simulation of params.yaml). The seconds are those of its process tree, imports included. The
line `read` is DuckDB reading every column of the raw log once: the unit that carries over to another machine. The
JSON is written after every stage and continued.
"""

import json as jsonlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common import params, stage
from common.files import write_text
from common.paths import PARAMS, ROOT
from common.yaml_file import dump_yaml, read_yaml

STAGES = (
    *("ingest", "validate", "aggregate", "join", "inspect_training"),
    *("materialize", "inspect_online", "encode", "inspect_tensors", "summarize"),
)
READ = "read"  # the row of the hand-written read
Cost = dict[str, float]  # cpu_seconds, seconds, peak_megabytes


def stages(
    *,
    rows: str = "500000,5000000",
    stages: str = ",".join(STAGES),
    folder: Path | None = None,
    json: Path = Path("artifacts/stages.json"),
) -> None:
    """Run the data stages at each size; print the table and write it to `json`.

    Args:
        rows: impressions of each size, with commas between them.
        stages: names of stages in their order, with commas between them.
        folder: where the logs are made, with some 700 bytes an impression; None: a temporary folder.
        json: file of the table, which is continued where it exists.
    """
    costs: dict[str, dict[str, Cost]] = jsonlib.loads(json.read_text(encoding="utf-8")) if json.exists() else {}
    for size in map(int, rows.split(",")):
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            done = costs.setdefault(str(size), {})
            for name, cost in run_stages(Path(temporary), size, stages.split(",")):
                done[name] = cost
                print(f"{size:,} {name}: {describe(cost)}", flush=True)
                write_text(json, jsonlib.dumps(costs, indent=1) + "\n")
    show(costs)


def run_stages(folder: Path, rows: int, names: list[str]) -> Iterator[tuple[str, Cost]]:
    """The cost of each stage of a log of so many impressions made in `folder`; then that of reading its events."""
    write_params(folder, rows)
    commands = {
        name: declared["cmd"] for name, declared in read_yaml(ROOT / "dvc.yaml")["stages"].items() if name in names
    }
    for name in names:
        yield name, measure(shlex.split(commands[name]), folder)
    yield READ, measure(["python", "-m", "benchmarks.pipeline.read_events", "--events", "data/ingested/events"], folder)


def write_params(folder: Path, rows: int) -> None:
    """Write the params.yaml of a simulated log with so many impressions, and users in proportion, into `folder`."""
    plain = read_yaml(ROOT / PARAMS)
    simulation = params.load(ROOT / PARAMS).dataset.simulation
    users = max(100, simulation.users * rows // simulation.impressions)
    plain["dataset"]["simulation"] |= {"impressions": rows, "users": users}
    (folder / PARAMS).write_text(dump_yaml(plain), encoding="utf-8")


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command of Python in `folder`; raises RuntimeError with its output where it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *command[1:]],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed:\n{log.read().decode(errors='replace')[-2000:]}")
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "seconds": round(time.perf_counter() - started, 2),
        "peak_megabytes": round(used.ru_maxrss / 1e3, 1),
    }


def describe(cost: Cost) -> str:
    """The cost as a cell of the table."""
    return f"{cost['cpu_seconds']:.1f} s, {cost['peak_megabytes']:,.0f} MB"


def show(costs: dict[str, dict[str, Cost]]) -> None:
    """Print the table: a line for each stage, a column for each size."""
    table = Table("stage", *(f"{int(size):,} rows" for size in costs))
    for name in dict.fromkeys(name for of_size in costs.values() for name in of_size):
        table.add_row(name, *(describe(of_size[name]) if name in of_size else "" for of_size in costs.values()))
    Console().print(table)


if __name__ == "__main__":
    stage.run(stages)
