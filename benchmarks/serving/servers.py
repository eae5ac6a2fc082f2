"""Servers as processes on free ports of 127.0.0.1: the service, its consumer, the plain one, the constant one, Redis.

Each is ready when its context begins and gone, with all processes that it started, when it ends.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from common.errors import PipelineError
from common.paths import ROOT

READY_SECONDS = 240.0  # until a server is ready; importing Feast takes 10, on a busy machine more
ENVIRONMENT = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "ignore",
}
OURS, PLAIN, BARE = "ours", "plain", "bare"


def end_servers_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that the servers which it started end, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@dataclass(frozen=True)
class Server:
    """A server at `url`, which was ready `ready_after` seconds after its start."""

    url: str
    process: psutil.Process
    log: Path
    ready_after: float

    def processes(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        return [self.process, *self.process.children(recursive=True)]

    def processor_seconds(self) -> dict[str, float]:
        """The processor seconds of each process so far, by its id."""
        return {str(process.pid): sum(process.cpu_times()[:2]) for process in self.processes()}

    def megabytes(self) -> dict[str, float]:
        """The resident memory of each process, by its id."""
        return {str(process.pid): process.memory_info().rss / 1e6 for process in self.processes()}


@contextmanager
def serve(
    kind: str,
    *,
    workers: int = 1,
    items: int = 200,
    environment: Mapping[str, str] | None = None,
    ready_seconds: float = READY_SECONDS,
    port: int | None = None,
) -> Iterator[Server]:
    """A ready server.

    Raises PipelineError where it ends, or is not ready within `ready_seconds`.

    Args:
        kind: OURS, PLAIN or BARE.
        workers: the number of worker processes.
        items: the number of items of BARE's constant answer.
        environment: variables that name the model and the store.
        ready_seconds: how long to wait for the server.
        port: default: a free one.
    """
    port = port or free_port()
    overrides = {"services": {"hinet": {"workers": workers}, "plain": {"workers": workers}}}
    with TemporaryDirectory(prefix="hinet-bench-") as scratch:
        variables = ENVIRONMENT | {"BENTOML_HOME": scratch, "BARE_ITEMS": str(items)} | dict(environment or {})
        if kind != BARE:
            variables["BENTOML_CONFIG_OVERRIDES"] = json.dumps(overrides)
        with _started(_command(kind, port, workers), variables, Path(scratch) / "log") as (process, log):
            url = f"http://127.0.0.1:{port}"
            yield Server(url, process, log, _wait_until_ready(url + "/readyz", process, log, ready_seconds))


def _command(kind: str, port: int, workers: int) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    if kind == BARE:
        application = ["uvicorn", "benchmarks.serving.bare:app", *listen]
        return [sys.executable, "-m", *application, "--workers", str(workers), "--log-level", "warning"]
    service = {OURS: "serving.service:RankingService", PLAIN: "benchmarks.serving.plain:Plain"}[kind]
    return [sys.executable, "-m", "bentoml", "serve", service, *listen]


@contextmanager
def consume_events(environment: Mapping[str, str]) -> Iterator[Server]:
    """The consumer of events, ready; its metrics are at /metrics. `environment` names the model and the events."""
    port = free_port()
    command, url = [sys.executable, "-m", "serving.consume", "--port", str(port)], f"http://127.0.0.1:{port}"
    with (
        TemporaryDirectory(prefix="hinet-bench-") as scratch,
        _started(command, ENVIRONMENT | dict(environment), Path(scratch) / "log") as (process, log),
    ):
        yield Server(url, process, log, _wait_until_ready(url + "/metrics", process, log, READY_SECONDS))


@contextmanager
def redis_server(*options: str, port: int | None = None) -> Iterator[tuple[int, psutil.Process]]:
    """The port and process of a Redis in memory; `options` override its own."""
    port = port or free_port()
    with TemporaryDirectory(prefix="hinet-redis-") as scratch:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", scratch, *options]
        with _started(command, {}, Path(scratch) / "log") as (process, log):
            began = time.monotonic()
            while not _accepts_connections(port):
                _wait_once(process, log, began, READY_SECONDS, f"redis-server at {port}")
            yield port, process


def free_port() -> int:
    """A port of 127.0.0.1 that is free."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def get(url: str, seconds: float = 5) -> bytes:
    """The body of a GET."""
    with urllib.request.urlopen(url, timeout=seconds) as response:
        return bytes(response.read())


def post(url: str, body: bytes, seconds: float = 10) -> bytes:
    """The answer to a JSON body; raises OSError for a status of 400 and above."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=seconds) as response:
        return bytes(response.read())


@contextmanager
def _started(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[tuple[psutil.Process, Path]]:
    """A process in a new process group; at the end it is terminated, then it and all its descendants are killed."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=file, stderr=file, start_new_session=True
        )
        process = psutil.Process(started.pid)
        try:
            yield process, log
        finally:
            with suppress(psutil.NoSuchProcess):
                descendants = process.children(recursive=True)
                process.send_signal(signal.SIGCONT)
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    started.wait(15)
                for remaining in [*descendants, process]:
                    with suppress(psutil.NoSuchProcess):
                        remaining.kill()
            started.wait(15)


def _wait_until_ready(url: str, process: psutil.Process, log: Path, ready_seconds: float) -> float:
    """Wait until `url` answers; returns the seconds that it took."""
    started = time.monotonic()
    while True:
        with suppress(OSError):
            get(url)
            return time.monotonic() - started
        _wait_once(process, log, started, ready_seconds, url)


def _wait_once(process: psutil.Process, log: Path, began: float, ready_seconds: float, what: str) -> None:
    seconds = time.monotonic() - began
    if process.status() == psutil.STATUS_ZOMBIE or seconds > ready_seconds:
        end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise PipelineError(f"{what} did not come up in {seconds:.0f} s; its log ends with:\n{end}")
    time.sleep(0.1)


def _accepts_connections(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
