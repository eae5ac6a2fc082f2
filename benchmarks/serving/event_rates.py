"""The runs of the benchmark of the intake: a closed loop of events, and the memory of both processes on the way."""

import asyncio
import json as text
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import numpy as np
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.serving.event_figures import APPLIED, Figures, peak_megabytes, samples, wait_until_applied
from benchmarks.serving.event_load import PER_PUT, EventLoad, project_with_sessions, sample_events
from benchmarks.serving.load import HEADERS
from benchmarks.serving.machine import machine, report_progress
from benchmarks.serving.points import percentiles
from benchmarks.serving.servers import OURS, Server, consume_events, end_servers_on_sigterm, redis_server, serve
from benchmarks.serving.stores import REDIS, SQLITE, fill_redis
from common.errors import PipelineError
from common.files import write_text
from common.paths import FEATURES
from common.settings import variable

STEP = 100_000  # events, after which rates and memory are read
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")  # of a Redis: a command is on the disk when it is answered
COLUMNS = ("events", "acknowledged_per_second", "p50", "p99", "waiting", "service_megabytes", "consumer_megabytes")


def run(json: Path, *, project: Path | None, events: int, connections: int, only: str | None) -> None:
    """Measure the intake with each store, or with `only` one; arguments as of the command."""
    end_servers_on_sigterm()
    with TemporaryDirectory(prefix="hinet-intake-") as scratch:
        project = project_with_sessions(project, Path(scratch))
        load = EventLoad(project, Path(scratch))
        stores = {
            kind: _measure(load, kind, project / FEATURES, events, connections)
            for kind in (SQLITE, REDIS)
            if only in (None, kind)
        }
    report = {"machine": machine(), "connections": connections, "per_request": PER_PUT, "stores": stores}
    write_text(json, text.dumps(report | {"load_average": os.getloadavg()}, indent=1) + "\n")
    show(stores)


def _measure(load: EventLoad, kind: str, features: Path, events: int, connections: int) -> list[Figures]:
    """Figures after each STEP of events to a service and its consumer, which start with an empty queue."""
    with (
        durable_store(kind, load, features) as environment,
        serve(OURS, environment=environment) as server,
        consume_events(environment) as consumer,
    ):
        before = samples(consumer)[APPLIED]
        figures = []
        for first in range(0, events, STEP):
            count = min(STEP, events - first)
            figures.append(_step(load, (server, consumer), first=first, count=count, connections=connections))
            began = time.monotonic()
            figures[-1]["drained_after"] = wait_until_applied(consumer, round(before) + first + count, began)
            figures[-1]["service_megabytes"], figures[-1]["consumer_megabytes"] = map(
                peak_megabytes, (server, consumer)
            )
            report_progress(f"{kind}: " + ", ".join(f"{name} {value:,.0f}" for name, value in figures[-1].items()))
        return figures


@contextmanager
def durable_store(kind: str, load: EventLoad, features: Path, port: int | None = None) -> Iterator[dict[str, str]]:
    """The environment of a service and its consumer whose queue is empty; a Redis is started and filled."""
    environment = load.environment | {variable("events"): str(load.scratch / f"events-{kind}")}
    if kind == SQLITE:
        yield environment
        return
    with redis_server(*DURABLE, port=port) as (port, _):
        fill_redis(port, load.model, features)
        yield environment | {variable("redis"): f"127.0.0.1:{port}"}


def _step(load: EventLoad, servers: tuple[Server, Server], *, first: int, count: int, connections: int) -> Figures:
    """Send `count` new events, and wait for the answers."""
    sent = sample_events(load.model, count, first=first)
    bodies = [orjson.dumps(sent[start : start + PER_PUT]) for start in range(0, count, PER_PUT)]
    server, consumer = servers
    applied, began = samples(consumer)[APPLIED], time.monotonic()
    latencies = uvloop.run(send_all(f"{server.url}/events", bodies, connections))
    seconds = time.monotonic() - began
    p50, _, p99, _ = percentiles(1e3 * np.array(latencies))
    waiting = count - (samples(consumer)[APPLIED] - applied)
    return {
        "events": first + count,
        "acknowledged_per_second": count / seconds,
        "p50": p50,
        "p99": p99,
        "waiting": waiting,
    }


async def send_all(url: str, bodies: Sequence[bytes], connections: int) -> list[float]:
    """Send each body once, over so many connections at a time; the seconds of each answer.

    Raises PipelineError for an answer other than 200.
    """
    latencies, remaining = list[float](), iter(bodies)

    async def send_in_turn(session: aiohttp.ClientSession) -> None:
        for body in remaining:
            began = time.perf_counter()
            async with session.post(url, data=body) as response:
                answer = await response.read()
            if response.status != 200:
                raise PipelineError(f"{url}: expected 200, got {response.status}: {answer.decode()}")
            latencies.append(time.perf_counter() - began)

    async with aiohttp.ClientSession(headers=HEADERS) as session:
        await asyncio.gather(*(send_in_turn(session) for _ in range(connections)))
    return latencies


def show(stores: dict[str, list[Figures]]) -> None:
    """Print a line for each step."""
    table = Table("store", *(name.replace("_", " ") for name in COLUMNS), title=f"POST /events, {PER_PUT} at once")
    for kind, steps in stores.items():
        for figures in steps:
            table.add_row(kind, *(f"{figures[name]:,.0f}" for name in COLUMNS))
    Console(width=160).print(table)
