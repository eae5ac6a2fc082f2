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
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline.small_project import clone, merged
from benchmarks.serving.bodies import sample_requests, vocabulary, write_bodies
from benchmarks.serving.machine import machine, report_progress, require
from benchmarks.serving.points import Outcomes, RunningLoad, percentiles
from benchmarks.serving.servers import OURS, Server, consume_events, end_servers_on_sigterm, get, serve
from common.errors import PipelineError
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
WARM_SECONDS, DRAIN_SECONDS = 5.0, 120.0
APPLIED, LAG = "hinet_events_applied_total", "hinet_event_lag_seconds"
Figures = dict[str, float]


def run(json: Path, *, project: Path | None, seconds: float, rate: float, rankings: float, backlog: int) -> None:
    """Measure a backlog, then the loads; arguments as of the command."""
    end_servers_on_sigterm()
    with TemporaryDirectory(prefix="hinet-events-") as scratch:
        project = (project or small_project(Path(scratch) / "project")).absolute()
        require(project / MODEL, project / ONLINE_STORE)
        load = EventLoad(project, Path(scratch))
        report = {"machine": machine(), "rate": rate, "rankings_per_second": rankings, "seconds": seconds}
        report |= {"backlog": load.backlog(backlog)} | load.beside_rankings(seconds, rate, rankings)
    report["load_average"] = os.getloadavg()
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(report)


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


def sample_events(model: Model, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """`count` events of now by known users, uniformly drawn; half of them with a label."""
    random, schema, now = np.random.default_rng(seed), model.schema, datetime.now(UTC).isoformat()
    users, items = (vocabulary(model, name) for name in (schema.user, schema.item))
    return [
        {
            "event_id": number,
            "user_id": users[random.integers(len(users))],
            "item_id": items[random.integers(len(items))],
            "scenario": schema.scenarios[random.integers(len(schema.scenarios))],
            "timestamp": now,
            "labels": {schema.rated[0]: int(random.integers(2))} if number % 2 else {},
        }
        for number in range(count)
    ]


def wait_until_applied(consumer: Server, count: int, began: float) -> float:
    """Wait until the consumer has applied `count` events; the seconds since `began`."""
    while (applied := samples(consumer)[APPLIED]) < count:
        if time.monotonic() - began > DRAIN_SECONDS + count / 100:
            raise PipelineError(f"{consumer.url}: {applied:.0f} of {count} events are applied; see why it is slow")
        time.sleep(0.05)
    return time.monotonic() - began


def samples(consumer: Server) -> Figures:
    """The values at the consumer's /metrics by name; of buckets by name and upper bound."""
    page = get(consumer.url + "/metrics").decode()
    values = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return {sample.name + sample.labels.get("le", ""): sample.value for sample in values}


def lag(values: Figures) -> Figures:
    """Milliseconds from the answer to the feature (p50, p99, mean), and the share within tenths of a second."""
    name = f"{LAG}_bucket"
    counts = {float(key.removeprefix(name)): value for key, value in values.items() if key.startswith(name)}
    bounds = np.array(sorted(counts))
    shares = np.array([counts[bound] for bound in bounds]) / values[f"{LAG}_count"]
    p50, p99 = 1e3 * np.interp([0.5, 0.99], np.r_[0, shares[:-1]], np.r_[0, bounds[:-1]])  # as histogram_quantile
    within = {f"within_{bound:g}_s": float(shares[bounds == bound][0]) for bound in (0.1, 0.5, 1.0)}
    return {"p50": float(p50), "p99": float(p99), "mean": 1e3 * values[f"{LAG}_sum"] / values[f"{LAG}_count"]} | within


def latencies(outcomes: Outcomes) -> Figures:
    """Requests, errors, degraded answers and percentiles in ms."""
    p50, _, p99, longest = percentiles(outcomes.latency)
    counts = {"requests": len(outcomes.status), "errors": outcomes.errors, "degraded": int(outcomes.degraded.sum())}
    return counts | {"p50": p50, "p99": p99, "longest": longest}


def peak_megabytes(consumer: Server) -> float:
    """The most resident memory of the consumer so far, by the kernel."""
    lines = Path(f"/proc/{consumer.process.pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def show(report: dict[str, Any]) -> None:
    """Print the figures of the report."""
    table = Table("what", "figures", title=f"{report['rate']:g} events/s, {report['rankings_per_second']:g} rankings/s")
    for name, value in report.items():
        figures = value.items() if isinstance(value, dict) else [("", value)]
        table.add_row(
            name, ", ".join(f"{key} {v:,.5g}" if isinstance(v, float) else f"{key} {v}" for key, v in figures)
        )
    Console(width=130).print(table)
