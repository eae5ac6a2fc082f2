"""The measurements of the serving benchmark: latencies by store, size and rate, throughput, parts of a request."""

import json as text
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.serving.bodies import sample_requests, write_bodies
from benchmarks.serving.goals import goals
from benchmarks.serving.machine import machine, report_progress, require
from benchmarks.serving.points import Point, measure
from benchmarks.serving.servers import BARE, ENVIRONMENT, OURS, PLAIN, Server, end_servers_on_sigterm, serve
from benchmarks.serving.stores import REDIS, SQLITE, online_store
from benchmarks.serving.tables import CLOSED, show
from common.files import write_text
from common.paths import ROOT
from common.settings import variable
from models.model_folder import Model, read_model

SHORT: dict[str, Any] = {"stores": (SQLITE,), "workers": (1, 2), "rates": {200: (100,), 500: (50,)}}
FULL: dict[str, Any] = {
    "stores": (SQLITE, REDIS),
    "workers": (1, 2),
    "rates": {50: (50, 100, 200), 200: (50, 100, 200), 500: (25, 50, 100), 1000: (25, 50)},
}
BODIES = 500  # different requests per size
OVERLOADED = 0.9  # share of the offered rate below which higher rates are not tried
COLD_RATE, COLD_SECONDS = 50.0, 2.0


def run(json: Path, *, model: Path, online: Path, features: Path, full: bool, seconds: float, rounds: int) -> None:
    """Run all measurements, print the tables and write the report to `json`; arguments as of the command."""
    require(model, online)
    end_servers_on_sigterm()
    grid = FULL if full else SHORT
    with TemporaryDirectory(prefix="hinet-bench-") as scratch:
        sources = Sources(read_model(model), model, online, features)
        benchmark = ServiceBenchmark(sources, Path(scratch), seconds)
        report = {"machine": machine(), "seconds": seconds, "model": sources.model.tag}
        report["inside"] = benchmark.parts(tuple(grid["rates"]), rounds)
        report["points"] = list(benchmark.points(grid))
        report["throughput"] = list(benchmark.throughput(200))
    report["goals"] = goals(report)
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(report)


class Sources:
    """The model and the stores that the servers use."""

    def __init__(self, model: Model, folder: Path, online: Path, features: Path) -> None:
        self.model, self.folder, self.online, self.features = model, folder, online, features

    def environment(self) -> dict[str, str]:
        """The environment of a service on the model and the SQLite store."""
        return {
            variable("model"): str(self.folder.absolute()),
            variable("online_store"): str(self.online.absolute()),
        }


class ServiceBenchmark:
    """The servers and loads of one run; progress goes to standard error."""

    def __init__(self, sources: Sources, scratch: Path, seconds: float) -> None:
        self.sources, self.scratch, self.seconds = sources, scratch, seconds

    def parts(self, candidates: tuple[int, ...], rounds: int) -> dict[str, Any]:
        """The parts of a request, by number of candidates: see benchmarks/serving/inside.py."""
        report_progress("in one process: forward, Feast, plain ranking, the service")
        out = self.scratch / "inside.json"
        command = [sys.executable, "-m", "benchmarks.serving.inside", "--json", str(out), "--rounds", str(rounds)]
        command += ["--model", str(self.sources.folder), "--online", str(self.sources.online)]
        command += [word for count in candidates for word in ("--candidates", str(count))]
        subprocess.run(command, cwd=ROOT, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
        parts: dict[str, Any] = text.loads(out.read_text())
        return parts

    def points(self, grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Latencies of the service by store, number of workers, size and rate; the first point of each is cold."""
        for store in grid["stores"]:
            with online_store(store, self.sources.model, self.sources.features) as environment:
                for workers in grid["workers"]:
                    labels: dict[str, Any] = {"server": OURS, "store": store, "workers": workers}
                    variables = self.sources.environment() | environment
                    with serve(OURS, workers=workers, environment=variables) as server:
                        labels["ready_after"] = round(server.ready_after, 1)
                        cold = self._measure(server, 200, COLD_RATE, COLD_SECONDS, "cold")
                        yield labels | {"state": "cold"} | cold.as_json()
                        for point in self.increasing_rates(server, grid["rates"]):
                            yield labels | {"state": "warm"} | point.as_json()

    def throughput(self, candidates: int) -> Iterator[dict[str, Any]]:
        """Answers per second in a closed loop of CLOSED connections: the service, the plain one, constant answers."""
        for kind in (OURS, PLAIN, BARE):
            for workers in (1, 2):
                with serve(kind, workers=workers, items=candidates, environment=self.sources.environment()) as server:
                    self._measure(server, candidates, None, 2, f"{kind} warms up")
                    point = self._measure(server, candidates, None, self.seconds, f"{kind}, {workers} workers")
                yield {"server": kind, "workers": workers} | point.as_json()

    def increasing_rates(self, server: Server, rates: dict[int, tuple[float, ...]]) -> Iterator[Point]:
        """A point for each size and rate; of a size, no rate above one that the server cannot answer."""
        for candidates, of_size in rates.items():
            for rate in of_size:
                point = self._measure(server, candidates, rate, self.seconds, "warm")
                yield point
                if point.answers_per_second < OVERLOADED * rate:
                    break

    def _measure(self, server: Server, candidates: int, rate: float | None, seconds: float, what: str) -> Point:
        bodies = self.scratch / f"{candidates}.jsonl"
        if not bodies.exists():
            write_bodies(bodies, sample_requests(self.sources.model, candidates, BODIES))
        connections = 256 if rate else CLOSED
        point = measure(server, bodies, candidates=candidates, rate=rate, seconds=seconds, connections=connections)
        report_progress(
            f"{what}: {candidates} candidates, {f'{rate:.0f}/s' if rate else 'closed loop'}: p50 {point.p50:.1f} "
            f"p99 {point.p99:.1f} ms, {point.answers_per_second:.0f} answers/s, {point.errors} errors"
        )
        return point
