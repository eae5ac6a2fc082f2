"""The run of the benchmark with hostile requests: a service, its clients, samples of its memory, and the verdict."""

import json as text
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import sample_requests
from benchmarks.serving.hostile_client import send_hostile
from benchmarks.serving.machine import machine, report_progress, require
from benchmarks.serving.servers import OURS, Server, end_servers_on_sigterm, post, serve
from common.files import write_text
from common.settings import variable
from models.model_folder import read_model

SAMPLE_SECONDS = 10.0
WARM_UP = 0.25  # of the run: caches and the allocator fill
MIN_SECONDS = 1800.0  # of a run with a verdict on its memory: a shorter one has too few samples for a slope
MAX_SLOPE = 20.0  # MB per hour and worker
WORKER = "_bentoml_impl.worker.service"  # in the command line of a worker
LAST_NORMAL = 6  # normal requests at the end, one of which has to be answered


def run(json: Path, *, model: Path, online: Path, seconds: float, workers: int, clients: int, seed: int) -> None:
    """Run the load and write the report; arguments as of the command."""
    require(model, online)
    end_servers_on_sigterm()
    valid = sample_requests(read_model(model), 50, 1)[0]
    with TemporaryDirectory(prefix="hinet-hostile-") as scratch:
        environment = {
            variable("model"): str(model.absolute()),
            variable("online_store"): str(online.absolute()),
            variable("impression_log"): str(Path(scratch) / "log"),
        }
        with serve(OURS, workers=workers, environment=environment) as server:
            post(f"{server.url}/rank", orjson.dumps(valid))
            with _clients(server, valid, clients=clients, seconds=seconds, seed=seed, scratch=Path(scratch)):
                samples = list(_sample(server, valid, seconds))
        answers = _answers(Path(scratch))
    report = {"machine": machine(), "seconds": seconds, "workers": workers, "clients": clients, "seed": seed}
    report |= assess(samples, answers, seconds) | {"answers": answers, "samples": samples}
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(report)


def assess(samples: list[dict[str, Any]], answers: dict[str, dict[str, int]], seconds: float) -> dict[str, Any]:
    """Slopes (MB/h) by worker after the warm-up, and what follows from samples and answers."""
    first, last = samples[0]["private"], samples[-1]["private"]
    slopes = {pid: slope(samples, pid) for pid in last}
    statuses: Counter[str] = Counter()
    for counts in answers.values():
        statuses.update(counts)
    ended = sorted(set(first) - set(last))
    normal = [sample["normal"] for sample in samples]
    flat = max(slopes.values()) <= MAX_SLOPE if seconds >= MIN_SECONDS else None
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "normal_answered": sum(status == 200 for status in normal) / len(normal),
        "slope_mb_per_hour": slopes,
        "limit_mb_per_hour": MAX_SLOPE,
        "ended_workers": ended,
        "flat": flat,
        "passed": flat is not False and not ended and "500" not in statuses and 200 in normal[-LAST_NORMAL:],
    }


def slope(samples: list[dict[str, Any]], pid: str) -> float:
    """The growth of a worker's own memory in MB per hour: least squares over the samples after the warm-up."""
    after = samples[int(len(samples) * WARM_UP) :]
    points = [(sample["seconds"] / 3600, sample["private"][pid]) for sample in after if pid in sample["private"]]
    if len(points) < 3:
        return float("nan")
    hours, megabytes = np.array(points).T
    return float(np.polyfit(hours, megabytes, 1)[0])


@contextmanager
def _clients(
    server: Server, valid: dict[str, Any], *, clients: int, seconds: float, seed: int, scratch: Path
) -> Iterator[None]:
    """Client processes, which are gone at the end."""
    context = multiprocessing.get_context("spawn")
    port = urlsplit(server.url).port
    started = [
        context.Process(
            target=send_hostile,
            args=(port, valid),
            kwargs={"seed": seed + number, "seconds": seconds, "out": scratch / f"client-{number}.json"},
        )
        for number in range(clients)
    ]
    for client in started:
        client.start()
    try:
        yield
        for client in started:
            client.join(60)
    finally:
        for client in started:
            client.kill()


def _sample(server: Server, valid: dict[str, Any], seconds: float) -> Iterator[dict[str, Any]]:
    """Every SAMPLE_SECONDS: by worker the resident memory, and its own part of it without mapped files, in MB."""
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        memory = {str(worker.pid): worker.memory_info() for worker in _workers(server)}
        sample = {
            "seconds": round(now, 1),
            "rss": {pid: round(info.rss / 1e6, 1) for pid, info in memory.items()},
            "private": {pid: round((info.rss - info.shared) / 1e6, 1) for pid, info in memory.items()},
            "connections": {str(worker.pid): worker.num_fds() for worker in _workers(server)},
            "normal": _normal(server, valid),
        }
        report_progress(f"{now:6.0f} s: {sample['private']} MB, normal request: {sample['normal']}")
        yield sample
        time.sleep(max(0.0, SAMPLE_SECONDS - (time.monotonic() - started - now)))


def _workers(server: Server) -> list[psutil.Process]:
    workers = [process for process in server.processes() if WORKER in " ".join(process.cmdline())]
    return sorted(workers, key=lambda process: process.pid)


def _normal(server: Server, valid: dict[str, Any]) -> int:
    """The status of a normal request; 0 without an answer."""
    try:
        post(f"{server.url}/rank", orjson.dumps(valid))
    except OSError as error:
        return int(getattr(error, "code", 0))
    return 200


def _answers(scratch: Path) -> dict[str, dict[str, int]]:
    """The counts of all clients, by kind and status."""
    total: dict[str, Counter[str]] = {}
    for path in scratch.glob("client-*.json"):
        for kind, counts in text.loads(path.read_text()).items():
            total.setdefault(kind, Counter()).update(counts)
    return {kind: dict(sorted(counts.items())) for kind, counts in sorted(total.items())}


def show(report: dict[str, Any]) -> None:
    """Print the figures of the report."""
    table = Table("figure", "value", title="Hostile requests")
    for name, value in report.items():
        if name not in ("samples", "answers", "machine"):
            table.add_row(name, str(value))
    for kind, counts in report["answers"].items():
        table.add_row(kind, str(counts))
    Console(width=130).print(table)
