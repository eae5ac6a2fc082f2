"""The runs of the benchmark of events: a backlog, and a load of events beside rankings."""

import json as text
import os
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.small_project import clone, merged
from benchmarks.serving.bodies import sample_requests, vocabulary, write_bodies
from benchmarks.serving.event_figures import (
    APPLIED,
    Figures,
    lag,
    latencies,
    peak_megabytes,
    samples,
    wait_until_applied,
)
from benchmarks.serving.machine import machine, report_progress, require
from benchmarks.serving.points import RunningLoad
from benchmarks.serving.servers import OURS, Server, consume_events, end_servers_on_sigterm, serve
from common.files import write_text
from common.paths import MODEL, ONLINE_STORE, PARAMS
from common.settings import variable
from common.yaml_file import dump_yaml, read_yaml
from models.model_folder import Model, read_model
from serving.events.event_queue import EventQueue
from serving.events.event_request import event_type

SIMULATION = {"impressions": 20_000, "users": 2_000, "items": 200}
CHANGES: dict[str, Any] = {"aggregate": {"session": {"events": 50}}, "dataset": {"simulation": SIMULATION}}
CANDIDATES, PER_REQUEST, PER_PUT = 200, 50, 100  # events of a POST /events, and of a put into the queue
WARM_SECONDS = 5.0


def run(json: Path, *, project: Path | None, seconds: float, rate: float, rankings: float, backlog: int) -> None:
    """Measure a backlog, then the loads; arguments as of the command."""
    end_servers_on_sigterm()
    with TemporaryDirectory(prefix="hinet-events-") as scratch:
        project = project_with_sessions(project, Path(scratch))
        load = EventLoad(project, Path(scratch))
        report = {"machine": machine(), "rate": rate, "rankings_per_second": rankings, "seconds": seconds}
        report |= {"backlog": load.backlog(backlog)} | load.beside_rankings(seconds, rate, rankings)
    report["load_average"] = os.getloadavg()
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(report)


def project_with_sessions(project: Path | None, scratch: Path) -> Path:
    """The folder of a project, which must have been run, or of a small one that is made in `scratch` and trained."""
    project = (project or small_project(scratch / "project")).absolute()
    require(project / MODEL, project / ONLINE_STORE)
    return project


def small_project(folder: Path) -> Path:
    """A simulation with session features in `folder`, materialized and trained for an epoch; the folder."""
    report_progress("a small project with session features is made")
    params = clone(folder) / PARAMS
    params.write_text(dump_yaml(merged(read_yaml(params), CHANGES)), encoding="utf-8")
    command = ["dvc", "repro", "--quiet", "materialize", "train@hinet_plus"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


class EventLoad:
    """The model and the online store of a project, and loads on them."""

    def __init__(self, project: Path, scratch: Path) -> None:
        self.model, self.scratch = read_model(project / MODEL), scratch
        self.environment = {
            variable("model"): str(project / MODEL),
            variable("online_store"): str(project / ONLINE_STORE),
        }

    def backlog(self, count: int) -> Figures:
        """Events per second that are put into a queue, and then applied by a consumer that starts."""
        report_progress(f"a backlog of {count:,} events")
        accepted, folder = event_type(self.model.schema), self.scratch / "backlog"
        parsed = [accepted.model_validate_json(orjson.dumps(event)) for event in sample_events(self.model, count)]
        lines, queue = [(event.event_id, event.line()) for event in parsed], EventQueue(folder)
        began = time.monotonic()
        for first in range(0, count, PER_PUT):
            queue.put(lines[first : first + PER_PUT])
        put = time.monotonic() - began
        queue.close()
        with consume_events(self.environment | {variable("events"): str(folder)}) as consumer:
            began, before = time.monotonic(), samples(consumer)[APPLIED]
            seconds = wait_until_applied(consumer, count, began)
            speed = (count - before) / seconds
            return {
                "put_per_second": count / put,
                "applied_per_second": speed,
                "peak_megabytes": peak_megabytes(consumer),
                "events": count,
            }

    def beside_rankings(self, seconds: float, rate: float, rankings: float) -> dict[str, Any]:
        """Rankings before, with and after events, the answers to these, and how late they are in the features."""
        environment = self.environment | {variable("events"): str(self.scratch / "events")}
        bodies = write_bodies(self.scratch / "rank.jsonl", sample_requests(self.model, CANDIDATES, 2000))
        sent = sample_events(self.model, round(rate * seconds))
        batches = [sent[first : first + PER_REQUEST] for first in range(0, len(sent), PER_REQUEST)]
        events = write_bodies(self.scratch / "events.jsonl", batches)  # type: ignore[arg-type]
        with serve(OURS, environment=environment) as server, consume_events(environment) as consumer:
            self._rank(server, bodies, rankings, WARM_SECONDS)
            report: dict[str, Any] = {"before": self._rank(server, bodies, rankings, seconds)}
            requests = len(batches) / seconds
            with RunningLoad(server, events, rate=requests, seconds=seconds, method="events") as load:
                began = time.monotonic()
                report["with"] = self._rank(server, bodies, rankings, seconds)
                answers = load.result()
            applied = sum(len(batches[body]) for body in np.flatnonzero(answers.status == 200))
            wait_until_applied(consumer, applied, began)
            report |= {"answer": latencies(answers), "feature": lag(samples(consumer)), "events": applied}
            report["peak_megabytes"] = peak_megabytes(consumer)
            return report | {"after": self._rank(server, bodies, rankings, seconds)}

    def _rank(self, server: Server, bodies: Path, rate: float, seconds: float) -> Figures:
        report_progress(f"{rate:g} rankings per second for {seconds:g} s")
        with RunningLoad(server, bodies, rate=rate, seconds=seconds) as load:
            return latencies(load.result())


def sample_events(model: Model, count: int, *, first: int = 0) -> list[dict[str, Any]]:
    """`count` events of now by known users, uniformly drawn, with ids from `first` on; half of them with a label."""
    random, schema, now = np.random.default_rng(first), model.schema, datetime.now(UTC).isoformat()
    names = ("user_id", "item_id", "scenario")
    values = (vocabulary(model, schema.user), vocabulary(model, schema.item), schema.scenarios)
    drawn = zip(*(random.choice(of_one, count).tolist() for of_one in values), strict=True)
    clicks = random.integers(2, size=count).tolist()
    return [
        dict(zip(names, shown, strict=True))
        | {"event_id": number, "timestamp": now, "labels": {schema.rated[0]: click} if number % 2 else {}}
        for number, (shown, click) in enumerate(zip(drawn, clicks, strict=True), first)
    ]


def show(report: dict[str, Any]) -> None:
    """Print the figures of the report."""
    table = Table("what", "figures", title=f"{report['rate']:g} events/s, {report['rankings_per_second']:g} rankings/s")
    for name, value in report.items():
        figures = value.items() if isinstance(value, dict) else [("", value)]
        table.add_row(
            name, ", ".join(f"{key} {v:,.5g}" if isinstance(v, float) else f"{key} {v}" for key, v in figures)
        )
    Console(width=130).print(table)
