"""What the data stages cost: the table of the benchmark, and a limit for each stage, in reads of the raw log."""

import functools
import importlib
import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.pipeline.read_events import read_events
from benchmarks.pipeline.stages import READ, stages, write_params
from common.paths import ROOT
from common.yaml_file import read_yaml

pytestmark = pytest.mark.integration

ROWS = 60_000
LIMITS = {
    "ingest": 50,
    "validate": 130,
    "aggregate": 70,
    "join": 60,
    "encode": 35,
    "summarize": 75,
}  # reads; 2026-11-30


def cpu_seconds(work: Callable[[], object]) -> float:
    """The processor time of this process in a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def run(name: str) -> None:
    """A stage by its command in dvc.yaml, in this process and the current folder."""
    _, _, module, *words = shlex.split(read_yaml(ROOT / "dvc.yaml")["stages"][name]["cmd"])
    options = {flag.removeprefix("--"): Path(value) for flag, value in zip(words[::2], words[1::2], strict=True)}
    getattr(importlib.import_module(module), name)(**options)


def test_a_row_costs_a_stage_a_limited_number_of_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor time of each stage is at most twice what it was when the limit was written."""
    costs: dict[str, float] = {}
    for rows in (2_000, ROWS):  # the small log first: imports, and what a first call costs
        folder = tmp_path / str(rows)
        folder.mkdir()
        write_params(folder, rows)
        monkeypatch.chdir(folder)
        costs = {name: cpu_seconds(functools.partial(run, name)) for name in LIMITS}
    unit = min(cpu_seconds(lambda: read_events(events=Path("data/ingested/events"))) for _ in range(10))
    reads = {name: round(cost / unit) for name, cost in costs.items()}
    assert {name: number for name, number in reads.items() if number > LIMITS[name]} == {}


def test_the_table_holds_the_cost_of_each_stage_and_of_the_read(tmp_path: Path) -> None:
    """A stage that stands in the JSON is not run again; its cost has processor seconds and peak memory."""
    table = tmp_path / "stages.json"
    stages(rows="2000", stages="ingest", json=table)
    costs = json.loads(table.read_text())["2000"]
    assert costs.keys() == {"ingest", READ}
    assert all(cost["cpu_seconds"] > 0 and cost["peak_megabytes"] > 10 for cost in costs.values())
