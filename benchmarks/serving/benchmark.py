"""Benchmark: POST /rank under an open-loop load on loopback, and beside it what a request is made of.

    python -m benchmarks.serving.benchmark --json serving.json             # three minutes
    python -m benchmarks.serving.benchmark --json serving.json --full      # both stores, more sizes and rates

In the same run: the same service written plainly (Feast read of all rows, eager forward, @bentoml.api), an ASGI
endpoint that returns constants, and, in one process, the forward and the Feast read of the same rows alone. The load
generator (benchmarks/serving/load.py) is a process on the same machine and competes for its cores: its lateness is in the
latencies, and told beside them.
"""

import json as text
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import asked, write_bodies
from benchmarks.serving.points import Point, measure
from benchmarks.serving.servers import BARE, OURS, PLAIN, ROOT, SETTINGS, Server, leave_nothing_behind, serve
from benchmarks.serving.stores import REDIS, SQLITE, online_store
from common import stage
from common.errors import PipelineError
from models.model_folder import Model, read_model

SHORT: dict[str, Any] = {"stores": (SQLITE,), "workers": (1, 2), "rates": {200: (100,), 500: (50,)}}
FULL: dict[str, Any] = {
    "stores": (SQLITE, REDIS),
    "workers": (1, 2),
    "rates": {50: (50, 100, 200), 200: (50, 100, 200), 500: (25, 50, 100), 1000: (25, 50)},
}
GOALS = {(200, 100): 15.0, (500, 50): 30.0}  # p99 in ms by candidates and rate
FASTER, AT_MOST = 8.0, 1.5  # throughput over the plain service's; service time over features and forward alone
WITHIN = {200: 5.0}  # ms in which a degraded answer is made, by candidates
BODIES = 500  # different requests per size
CLOSED = 8  # connections of the closed loop
LOST = 0.9  # share of the offered rate below which higher rates are not tried
COLD_RATE, COLD_SECONDS = 50.0, 2.0


def serving(
    *,
    json: Path = Path("artifacts/serving.json"),
    model: Path = Path("artifacts/models/hinet"),
    online: Path = Path("artifacts/online.db"),
    features: Path = Path("data/features"),
    full: bool = False,
    seconds: float = 10,
    rounds: int = 100,
) -> None:
    """Measure the service on `model` and `online`, print the tables and write them to `json`.

    `full` wants `features` too, from which Redis is filled.
    """
    for path in (model, online):
        if not path.exists():
            raise PipelineError(f"{path} does not exist: run `dvc repro package`; train.epochs 1 will do")
    leave_nothing_behind()
    grid = FULL if full else SHORT
    with TemporaryDirectory(prefix="hinet-bench-") as scratch:
        bench = Bench(read_model(model), model, online, features, Path(scratch), seconds)
        report = {"machine": machine(), "seconds": seconds, "model": bench.model.tag}
        report["inside"] = bench.inside(tuple(grid["rates"]), rounds)
        report["points"] = list(bench.points(grid))
        report["throughput"] = list(bench.throughput(200))
    report["goals"] = goals(report)
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(text.dumps(report, indent=1) + "\n")
    show(report)


class Bench:
    """The servers and loads of one run; progress goes to standard error."""

    def __init__(self, model: Model, folder: Path, online: Path, features: Path, scratch: Path, seconds: float) -> None:
        self.model, self.folder, self.online, self.features = model, folder, online, features
        self.scratch, self.seconds = scratch, seconds

    def inside(self, candidates: tuple[int, ...], rounds: int) -> dict[str, Any]:
        """The parts of a request, by number of candidates: see benchmarks/serving/inside.py."""
        told("in one process: forward, Feast, plain ranking, our service")
        out = self.scratch / "inside.json"
        sizes = [word for count in candidates for word in ("--candidates", str(count))]
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving.inside",
            "--model",
            str(self.folder),
            "--online",
            str(self.online),
            "--json",
            str(out),
            "--rounds",
            str(rounds),
            *sizes,
        ]
        subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS, stdout=subprocess.DEVNULL, check=True)
        found: dict[str, Any] = text.loads(out.read_text())
        return found

    def points(self, grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Latencies of our service, for every store, number of workers, size and rate; the first is cold."""
        for store in grid["stores"]:
            with online_store(store, self.model, self.features) as environment:
                for workers in grid["workers"]:
                    about: dict[str, Any] = {"server": OURS, "store": store, "workers": workers}
                    with serve(OURS, workers=workers, environment=self._sources() | environment) as server:
                        about["ready_after"] = round(server.ready_after, 1)
                        cold = self._measure(server, 200, COLD_RATE, COLD_SECONDS, "cold")
                        yield about | {"state": "cold"} | cold.facts()
                        for found in self._rates(server, grid["rates"]):
                            yield about | {"state": "warm"} | found.facts()

    def throughput(self, candidates: int) -> Iterator[dict[str, Any]]:
        """Answers per second in a closed loop of CLOSED connections: ours, the plain service, constants."""
        for kind in (OURS, PLAIN, BARE):
            for workers in (1, 2):
                with serve(kind, workers=workers, items=candidates, environment=self._sources()) as server:
                    self._measure(server, candidates, None, 2, f"{kind} warms up")
                    found = self._measure(server, candidates, None, self.seconds, f"{kind}, {workers} workers")
                yield {"server": kind, "workers": workers} | found.facts()

    def _rates(self, server: Server, rates: dict[int, tuple[float, ...]]) -> Iterator[Point]:
        for candidates, tried in rates.items():
            for rate in tried:
                found = self._measure(server, candidates, rate, self.seconds, "warm")
                yield found
                if found.answers_per_second < LOST * rate:
                    break

    def _measure(self, server: Server, candidates: int, rate: float | None, seconds: float, what: str) -> Point:
        bodies = self.scratch / f"{candidates}.jsonl"
        if not bodies.exists():
            write_bodies(bodies, asked(self.model, candidates, BODIES))
        connections = 256 if rate else CLOSED
        found = measure(server, bodies, candidates=candidates, rate=rate, seconds=seconds, connections=connections)
        told(
            f"{what}: {candidates} candidates, {f'{rate:.0f}/s' if rate else 'closed loop'}: p50 {found.p50:.1f} "
            f"p99 {found.p99:.1f} ms, {found.answers_per_second:.0f} answers/s, {found.errors} errors"
        )
        return found

    def _sources(self) -> dict[str, str]:
        return {"HINET_MODEL": str(self.folder.absolute()), "HINET_ONLINE_STORE": str(self.online.absolute())}


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached, and what was."""
    found = []
    for (candidates, rate), limit in GOALS.items():
        hit = [p for p in report["points"] if (p["candidates"], p["rate"], p["state"]) == (candidates, rate, "warm")]
        found += [
            {
                "goal": f"{candidates} candidates at {rate}/s, {p['store']}, {p['workers']} workers: p99, ms",
                "limit": limit,
                "found": p["p99"],
                "reached": p["p99"] <= limit and not p["errors"],
            }
            for p in hit
        ]
    rates = {(t["server"], t["workers"]): t["answers_per_second"] for t in report["throughput"]}
    for workers in (1, 2):
        times = rates[OURS, workers] / rates[PLAIN, workers]
        found.append(
            {
                "goal": f"throughput over the plain service's, {workers} workers: times",
                "limit": FASTER,
                "found": round(times, 2),
                "reached": times >= FASTER,
            }
        )
    for candidates, parts in report["inside"].items():
        share = parts["service"]["median"] / (parts["feast"]["median"] + parts["forward"]["median"])
        found.append(
            {
                "goal": f"service time over Feast and forward alone, {candidates} candidates: times",
                "limit": AT_MOST,
                "found": round(share, 2),
                "reached": share <= AT_MOST,
            }
        )
        if within := WITHIN.get(int(candidates)):
            p99 = parts["degraded"]["p99"]
            found.append(
                {
                    "goal": f"service time of a degraded answer, {candidates} candidates: p99, ms",
                    "limit": within,
                    "found": round(p99, 2),
                    "reached": p99 <= within,
                }
            )
    return found


def machine() -> dict[str, Any]:
    """What it ran on, and when."""
    names = (
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return {
        "moment": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": next(names, platform.machine()),
        "cores": stage.threads(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def told(line: str) -> None:
    """Progress, on standard error."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", file=sys.stderr, flush=True)


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=130)
    table = Table(
        "store",
        "workers",
        "state",
        "candidates",
        "rate /s",
        "p50",
        "p95",
        "p99",
        "longest",
        "late p99",
        "errors",
        "CPU ms",
        "stolen",
        title="Our service: ms from the scheduled departure",
    )
    for p in report["points"]:
        ms = (f"{p[name]:.1f}" for name in ("p50", "p95", "p99", "longest", "late_p99"))
        table.add_row(
            p["store"],
            str(p["workers"]),
            p["state"],
            str(p["candidates"]),
            f"{p['rate']:.0f}",
            *ms,
            str(p["errors"]),
            f"{p['processor_ms']:.1f}",
            f"{p['stolen']:.1%}",
        )
    console.print(table)
    table = Table(
        "server",
        "workers",
        "answers/s",
        "p50",
        "p99",
        "errors",
        "CPU ms",
        title=f"200 candidates, closed loop of {CLOSED} connections",
    )
    for p in report["throughput"]:
        table.add_row(
            p["server"],
            str(p["workers"]),
            f"{p['answers_per_second']:.0f}",
            f"{p['p50']:.1f}",
            f"{p['p99']:.1f}",
            str(p["errors"]),
            f"{p['processor_ms']:.1f}",
        )
    console.print(table)
    parts = next(iter(report["inside"].values()))
    table = Table("candidates", *parts, title="one request in one process: median (p99), ms")
    for candidates, found in report["inside"].items():
        table.add_row(candidates, *(f"{ms['median']:.2f} ({ms['p99']:.2f})" for ms in found.values()))
    console.print(table)
    table = Table("goal", "limit", "found", "reached")
    for goal in report["goals"]:
        table.add_row(goal["goal"], f"{goal['limit']:g}", f"{goal['found']:g}", "yes" if goal["reached"] else "no")
    console.print(table)


if __name__ == "__main__":
    stage.run(serving)
