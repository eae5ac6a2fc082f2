"""Shifts that are planted in simulated logs, and the finding of the drift report that each should lead to."""

import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.drift.simulated_log import (
    MATURE,
    ORDER_SCENARIO,
    SCENARIO,
    YOUNG,
    Layout,
    SimulatedLog,
    simulate,
    write_log,
)

UNSHIFTED = ("none", "season", *YOUNG)  # kinds without a shift
SAME_FEATURES = ("missing", "unit", "swapped")  # kinds that change no column of which statistics are made
OTHER_ROWS = ("covariate", "mix", "new_items")  # kinds with other impressions, whose probabilities are as before
STALLED, DELAY = "stalled", timedelta(days=2)  # the log without a shift, but with features that are so old
RANK = "place"  # key of a run: the rank of the expected finding
Finding = dict[str, Any]
Run = dict[str, Any]

EXPECTED: dict[str, Callable[[Finding], bool]] = {
    "covariate": lambda f: (f["kind"], f["column"], f["scenario"]) == ("covariate", "device", SCENARIO),
    "mix": lambda f: (f["kind"], f["scenario"]) == ("mix", SCENARIO),
    "new_items": lambda f: (f["kind"], f["column"], f["scenario"]) == ("new_values", "item_id", "all"),
    "missing": lambda f: (f["kind"], f["column"], f["scenario"]) == ("missing", "distance_km", "all"),
    "unit": lambda f: (f["kind"], f["column"], f["scenario"]) == ("unit", "distance_km", "all"),
    "swapped": lambda f: (f["kind"], f["column"], f["scenario"]) == ("swapped", "device", "all"),
    "conversion": lambda f: (f["kind"], f["scenario"], f["task"]) == ("label_rate", ORDER_SCENARIO, "order"),
    "taste": lambda f: f["kind"] == "ranking",
    STALLED: lambda f: (f["kind"], f["column"], f["scenario"]) == ("outdated", "user_recent_items: age", "all"),
}
KINDS = (*UNSHIFTED, *EXPECTED)


class Results:
    """The runs in a JSON file; those of logs of another size are dropped."""

    def __init__(self, path: Path) -> None:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.path, self.runs = path, list[Run](document["runs"] if document.get("size") == MATURE.size else [])

    def missing(self, seeds: int, kinds: frozenset[str]) -> dict[int, frozenset[str]]:
        """The kinds that were not run yet, by seed."""
        open_kinds = {seed: kinds - self.kinds(seed) for seed in range(1, seeds + 1)}
        return {seed: left for seed, left in open_kinds.items() if left}

    def kinds(self, seed: int) -> set[str]:
        """The kinds that were run with this seed."""
        return {run["kind"] for run in self.runs if run["seed"] == seed}

    def add(self, runs: list[Run]) -> None:
        """Add runs, and write the file."""
        self.runs += runs
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps({"size": MATURE.size, "runs": self.runs}, indent=1) + "\n")


def run_kinds(seed: int, kinds: frozenset[str], layout: Layout = MATURE) -> list[Run]:
    """Run each of these kinds of shift in the simulation of this seed; `layout` is not that of the young logs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, runs = Path(temporary), list[Run]()
        if chosen := [kind for kind in ("none", *EXPECTED) if kind in kinds]:
            log = simulate(folder / "none", seed, "none", layout)
            runs = [result(seed, kind, report(log, kind, seed, folder / kind)) for kind in chosen]
        if "season" in kinds:  # another log from the first day on
            log = simulate(folder / "season", seed, "season", layout)
            runs.append(result(seed, "season", log.report(log.folder, truth=log.folder)))
        for kind in (kind for kind in YOUNG if kind in kinds):
            log = simulate(folder / kind, seed, "none", YOUNG[kind])
            runs.append(result(seed, kind, log.report(log.folder, truth=log.folder)))
        return runs


def report(log: SimulatedLog, kind: str, seed: int, shifted: Path) -> dict[str, Any]:
    """The drift report on the log with this kind of shift, which is written to `shifted` and removed afterwards."""
    if kind in ("none", STALLED):  # the log itself
        return log.report(log.folder, truth=log.folder, delay=DELAY if kind == STALLED else timedelta(0))
    write_log(
        shifted, seed, kind, layout=log.layout, features=log.folder / "features" if kind in SAME_FEATURES else None
    )
    document = log.report(shifted, truth=shifted if kind in OTHER_ROWS else log.folder)
    shutil.rmtree(shifted)
    return document


def result(seed: int, kind: str, report: dict[str, Any]) -> Run:
    """The part of a report that is kept: its verdict, the rank and level of the expected finding, the sentences."""
    findings = report["findings"]
    ranks = (rank for rank, finding in enumerate(findings, start=1) if kind in EXPECTED and EXPECTED[kind](finding))
    rank = next(ranks, None)
    level = None if rank is None else findings[rank - 1]["verdict"]
    return {
        "seed": seed,
        "kind": kind,
        "verdict": report["verdict"],
        RANK: rank,
        "level": level,
        "findings": [f"{one['verdict']}: {one['sentence']}" for one in findings[:5]],
    }


def show(runs: list[Run]) -> None:
    """Print the table."""
    table = Table("planted", "logs", "act", "watch", "ok", "named", "named first", title="drift reports")
    for kind in KINDS:
        if not (of_kind := [run for run in runs if run["kind"] == kind]):
            continue
        levels = (sum(run["verdict"] == level for run in of_kind) for level in ("act", "watch", "ok"))
        named = (sum(run[RANK] is not None for run in of_kind), sum(run[RANK] == 1 for run in of_kind))
        table.add_row(kind, str(len(of_kind)), *map(str, levels), *(("", "") if kind in UNSHIFTED else map(str, named)))
    Console(width=100).print(table)
