"""Servers as processes of their own, on free ports of 127.0.0.1: ours, the plain one, the bare one, Redis.

Each is up when its context begins and gone, with all that it started, when it ends.
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
from typing import Any

import psutil

from common.errors import PipelineError
from common.paths import ROOT

PATIENCE = 240.0  # seconds until a server is ready; importing Feast takes 10, on a busy machine more
SETTINGS = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "ignore",
}
OURS, PLAIN, BARE = "ours", "plain", "bare"


def leave_nothing_behind() -> None:
    """Let SIGTERM end this process as an exception does, so that the servers which it started end, too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@dataclass(frozen=True)
class Server:
    """One that answers at `url`; `ready_after` seconds after it was started."""

    url: str
    process: psutil.Process
    log: Path
    ready_after: float

    def processes(self) -> list[psutil.Process]:
        """The process and all below it."""
        return [self.process, *self.process.children(recursive=True)]

    def processor_seconds(self) -> dict[str, float]:
        """What each of them used of the processor so far, by its id."""
        return {str(process.pid): sum(process.cpu_times()[:2]) for process in self.processes()}

    def megabytes(self) -> dict[str, float]:
        """Resident memory of each, by its id."""
        return {str(process.pid): process.memory_info().rss / 1e6 for process in self.processes()}


@contextmanager
def serve(
    kind: str,
    *,
    workers: int = 1,
    items: int = 200,
    environment: Mapping[str, str] | None = None,
    patience: float = PATIENCE,
) -> Iterator[Server]:
    """A service of `kind` (ours, plain, bare), ready; `environment` says which model and store.

    Raises PipelineError where it ends, or is not ready within `patience` seconds.
    """
    port = free_port()
    bento = [sys.executable, "-m", "bentoml", "serve"]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    command = {
        OURS: [*bento, "serving.service:RankingService", *listen],
        PLAIN: [*bento, "benchmarks.serving.plain:Plain", *listen],
        BARE: [
            sys.executable,
            "-m",
            "uvicorn",
            "benchmarks.serving.bare:app",
            *listen,
            "--workers",
            str(workers),
            "--log-level",
            "warning",
        ],
    }[kind]
    asked = {"services": {"hinet": {"workers": workers}, "plain": {"workers": workers}}}
    with TemporaryDirectory(prefix="hinet-bench-") as scratch:
        own = SETTINGS | {"BENTOML_HOME": scratch, "BARE_ITEMS": str(items)}
        own |= {} if kind == BARE else {"BENTOML_CONFIG_OVERRIDES": json.dumps(asked)}
        with _started(command, own | dict(environment or {}), Path(scratch) / "log") as (process, log):
            url = f"http://127.0.0.1:{port}"
            yield Server(url, process, log, _wait(url + "/readyz", process, log, patience))


@contextmanager
def redis_server(*options: str, port: int | None = None) -> Iterator[tuple[int, psutil.Process]]:
    """A Redis that keeps nothing on disk: its port and process."""
    port = port or free_port()
    with TemporaryDirectory(prefix="hinet-redis-") as scratch:
        command = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            scratch,
            *options,
        ]  # the last of two counts
        with _started(command, {}, Path(scratch) / "log") as (process, log):
            began = time.monotonic()
            while not _listens(port):
                _check(process, log, began, PATIENCE, f"redis-server at {port}")
            yield port, process


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def get(url: str, seconds: float = 5) -> Any:
    """The body of a GET."""
    with urllib.request.urlopen(url, timeout=seconds) as response:
        return response.read()


def post(url: str, body: bytes, seconds: float = 10) -> bytes:
    """What is answered to JSON; raises OSError where its status is not one of success."""
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=seconds) as response:
        return bytes(response.read())


@contextmanager
def _started(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator[tuple[psutil.Process, Path]]:
    """A process in a group of its own; at the end it is asked to stop, then it and all below it are killed."""
    with log.open("wb") as file:
        started = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=file, stderr=file, start_new_session=True
        )
        process = psutil.Process(started.pid)
        try:
            yield process, log
        finally:
            with suppress(psutil.NoSuchProcess):
                below = process.children(recursive=True)
                process.send_signal(signal.SIGCONT)
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    started.wait(15)
                for left in [*below, process]:
                    with suppress(psutil.NoSuchProcess):
                        left.kill()
            started.wait(15)


def _wait(url: str, process: psutil.Process, log: Path, patience: float) -> float:
    """Seconds until `url` answers."""
    started = time.monotonic()
    while True:
        with suppress(OSError):
            get(url)
            return time.monotonic() - started
        _check(process, log, started, patience, url)


def _check(process: psutil.Process, log: Path, began: float, patience: float, what: str) -> None:
    seconds = time.monotonic() - began
    if process.status() == psutil.STATUS_ZOMBIE or seconds > patience:
        told = log.read_text(errors="replace")[-2000:]
        raise PipelineError(f"{what} did not come up in {seconds:.0f} s; its log ends with:\n{told}")
    time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
