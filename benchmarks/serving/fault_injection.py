"""The runs of the fault benchmark: a load, a fault in the middle, and what came of the requests."""

import json as text
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import sample_requests, write_bodies
from benchmarks.serving.fault_targets import FAULTS, Fault, Targets, targets
from benchmarks.serving.machine import machine, report_progress
from benchmarks.serving.points import Outcomes, RunningLoad, percentiles
from benchmarks.serving.servers import OURS, end_servers_on_sigterm, serve
from common.errors import ParameterError, PipelineError
from common.files import write_text
from common.settings import variable
from models.model_folder import read_model

BEFORE, DURING, AFTER = 4.0, 8.0, 12.0  # seconds
CANDIDATES, USERS = 200, 1000
REFUSES = 90.0  # seconds after which a service that is not ready will not be: it took 13 to 17


@dataclass(frozen=True, kw_only=True)
class FaultResult:
    """What came of the requests during a fault and afterwards.

    `recovered_after` is the time (s) from the end of the fault to the last degraded or failed answer; `at_start` what a
    service does that is started during the fault.
    """

    fault: str
    requests: int
    errors: int
    degraded: int
    p50: float
    p99: float
    longest: float
    recovered_after: float
    at_start: str


def run(json: Path, *, model: Path, online: Path, features: Path, only: str, rate: float) -> None:
    """Cause the chosen faults one after another, print the table and write the report to `json`."""
    end_servers_on_sigterm()
    chosen = select_faults(only)
    views = features if any(store == "redis" for store, _ in chosen.values()) else None
    with TemporaryDirectory(prefix="hinet-faults-") as scratch, targets(Path(scratch), model, online, views) as copies:
        requests = sample_requests(read_model(copies.model), CANDIDATES, USERS)
        bodies = write_bodies(Path(scratch) / "bodies.jsonl", requests)
        results = [
            asdict(_inject(copies, name, store, fault, bodies=bodies, rate=rate))
            for name, (store, fault) in chosen.items()
        ]
    report = {"machine": machine(), "rate": rate, "candidates": CANDIDATES, "seconds": DURING, "faults": results}
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(results, rate)


def select_faults(only: str) -> dict[str, tuple[str, Fault]]:
    """The faults whose names contain one of the comma-separated words of `only`; all of them if it is empty."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    for word in words:
        if not any(word in name for name in FAULTS):
            raise ParameterError(f"--only: no fault is named {word!r}; expected a word of: {', '.join(FAULTS)}")
    return {name: fault for name, fault in FAULTS.items() if not words or any(word in name for word in words)}


def _inject(copies: Targets, name: str, store: str, fault: Fault, *, bodies: Path, rate: float) -> FaultResult:
    environment = {variable("model"): str(copies.model), variable("online_store"): str(copies.online)}
    environment |= {variable("redis"): f"127.0.0.1:{copies.proxy.port}"} if store == "redis" else {}
    with serve(OURS, environment=environment) as server:
        with RunningLoad(server, bodies, rate=rate, seconds=2) as warm_up:
            warm_up.result()
        with RunningLoad(server, bodies, rate=rate, seconds=BEFORE + DURING + AFTER) as load:
            time.sleep(BEFORE)
            with fault(copies):
                began = load.elapsed  # after the fault is there: a lock is waited for
                time.sleep(DURING)
            ended = load.elapsed
            outcomes = load.result()
    with fault(copies):
        at_start = _start_during_fault(environment)
    result = summarize(name, outcomes, began, ended, at_start)
    report_progress(
        f"{name}: {result.errors} errors, {result.degraded} of {result.requests} degraded, p99 {result.p99:.0f} ms; "
        f"at the start: {at_start}"
    )
    return result


def summarize(name: str, outcomes: Outcomes, began: float, ended: float, at_start: str) -> FaultResult:
    """The result of a fault from `began` to `ended` (s): errors of the whole load, all else of the fault."""
    during, after = outcomes.between(began, ended), outcomes.between(ended, np.inf)
    p50, _, p99, longest = percentiles(during.latency)
    bad = after.scheduled[(after.status != 200) | after.degraded]
    return FaultResult(
        fault=name,
        requests=len(during.status),
        errors=outcomes.errors,
        degraded=int(during.degraded.sum()),
        p50=p50,
        p99=p99,
        longest=longest,
        recovered_after=round(float(bad.max()) - ended, 1) if len(bad) else 0.0,
        at_start=at_start,
    )


def _start_during_fault(environment: dict[str, str]) -> str:
    """Start a service now: when it was ready, or the last line of its error."""
    try:
        with serve(OURS, environment=environment, ready_seconds=REFUSES) as server:
            return f"ready after {server.ready_after:.0f} s"
    except PipelineError as error:
        lines = [line for line in str(error).splitlines() if "Error" in line or "expected" in line]
        return f"refuses: {(lines or str(error).splitlines())[-1].strip()[:200]}"


def show(results: list[dict[str, Any]], rate: float) -> None:
    """Print a line per fault."""
    columns = ("fault", "requests", "errors", "degraded", "p50 ms", "p99 ms", "longest", "recovered after s")
    title = f"{rate:.0f} requests/s of {CANDIDATES} candidates, {DURING:.0f} s of fault"
    table = Table(*columns, "a service that is started meanwhile", title=title)
    for one in results:
        counts = (str(one[name]) for name in ("requests", "errors", "degraded"))
        ms = (f"{one[name]:.1f}" for name in ("p50", "p99", "longest"))
        table.add_row(one["fault"], *counts, *ms, f"{one['recovered_after']:.1f}", one["at_start"])
    Console(width=160).print(table)
