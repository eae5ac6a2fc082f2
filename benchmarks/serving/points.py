"""One measurement of a running server: the load generator's process beside it, and its latencies as figures."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.serving.load import BEGINS
from benchmarks.serving.servers import ROOT, SETTINGS, Server
from common.errors import PipelineError

SLACK = 60.0  # seconds that a load may take longer than asked: its imports, and the answers that are waited for


@dataclass(frozen=True, kw_only=True)
class Point:
    """Latencies in ms from the scheduled departure; `late_p99` is how much of them is the generator's own lateness.

    `processor_ms` is what the server's processes used per answer; `stolen` the share of all cores that the host took
    meanwhile (NaN: nobody knows); `load_average` that of the machine at the end, over a minute. `rate` is None where
    the load was closed: as many requests as `connections` at any moment.
    """

    candidates: int
    rate: float | None
    connections: int
    seconds: float
    requests: int
    errors: int
    answers_per_second: float
    p50: float
    p95: float
    p99: float
    longest: float
    late_p99: float
    processor_ms: float
    stolen: float
    load_average: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Offered:
    """Requests in the order of departure: moments (s), latencies (ms), statuses, whether the answer is degraded."""

    moments: np.ndarray
    late: np.ndarray
    latency: np.ndarray
    status: np.ndarray
    degraded: np.ndarray

    def between(self, start: float, end: float) -> "Offered":
        """Those that were scheduled from `start` to `end`, in seconds."""
        inside = (self.moments >= start) & (self.moments < end)
        return Offered(*(values[inside] for values in vars(self).values()))


def offer(
    server: Server, bodies: Path, *, rate: float, seconds: float, connections: int = 256, options: Sequence[str] = ()
) -> Offered:
    """Let the generator send `bodies` to POST /rank of `server`, `rate` per second (0: closed loop)."""
    with start_load(server, bodies, rate, seconds, connections, options) as running:
        return running.result()


class start_load:  # noqa: N801 (a context manager that reads as a verb)
    """The generator at work, begun when the block begins; `result` waits for its end."""

    def __init__(
        self,
        server: Server,
        bodies: Path,
        rate: float,
        seconds: float,
        connections: int = 256,
        options: Sequence[str] = (),
    ) -> None:
        self.seconds, self.out = seconds, bodies.with_suffix(f".{time.monotonic_ns()}.npz")
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving.load",
            "--url",
            f"{server.url}/rank",
            "--bodies",
            str(bodies),
            "--out",
            str(self.out),
            "--rate",
            str(rate),
            "--seconds",
            str(seconds),
            "--connections",
            str(connections),
            *options,
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | SETTINGS, stdout=subprocess.PIPE, text=True)
        self.started = 0.0  # as time.monotonic tells it

    def __enter__(self) -> "start_load":
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if not said.startswith(BEGINS):
            self.process.wait(SLACK)
            self.process.stdout.close()
            raise PipelineError(f"the load generator ended with status {self.process.returncode}; its message is above")
        self.started = float(said.removeprefix(BEGINS))
        return self

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.started

    def result(self) -> Offered:
        """What came of every request; raises PipelineError where the generator failed."""
        if self.process.wait(self.seconds + SLACK) or not self.out.exists():
            raise PipelineError(f"the load generator ended with status {self.process.returncode}; its message is above")
        with np.load(self.out) as kept:
            seconds = (kept["scheduled"], kept["late"] * 1e3, kept["latency"] * 1e3)
            return Offered(*seconds, kept["status"], kept["degraded"])

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.out.unlink(missing_ok=True)


def measure(
    server: Server, bodies: Path, *, candidates: int, rate: float | None, seconds: float, connections: int = 256
) -> Point:
    """One point of the table."""
    before, stolen, started = sum(server.processor_seconds().values()), stolen_seconds(), time.monotonic()
    found = offer(server, bodies, rate=rate or 0, seconds=seconds, connections=connections)
    taken = share_of_cores(stolen_seconds() - stolen, time.monotonic() - started)
    used, answered = sum(server.processor_seconds().values()) - before, found.status == 200
    span = max(seconds, float((found.moments + found.latency / 1e3).max(initial=0)))
    p50, p95, p99, longest = percentiles(found.latency)
    return Point(
        candidates=candidates,
        rate=rate,
        connections=connections,
        seconds=seconds,
        requests=len(found.status),
        errors=int((~answered).sum()),
        answers_per_second=float(answered.sum()) / span,
        p50=p50,
        p95=p95,
        p99=p99,
        longest=longest,
        late_p99=percentiles(found.late)[2],
        processor_ms=used * 1e3 / max(1, int(answered.sum())),
        stolen=taken,
        load_average=os.getloadavg()[0],
    )


def stolen_seconds() -> float:
    """Processor seconds that the host took from this machine since it was started; NaN where nobody knows."""
    return float(getattr(psutil.cpu_times(), "steal", "nan"))


def share_of_cores(used: float, seconds: float) -> float:
    """What processor seconds are of all that the cores have in `seconds`."""
    return used / seconds / (psutil.cpu_count() or 1)


def percentiles(values: np.ndarray) -> tuple[float, float, float, float]:
    """50, 95, 99 and 100; NaN where there is nothing."""
    if not len(values):
        return (float("nan"),) * 4
    p50, p95, p99, longest = np.percentile(values, [50, 95, 99, 100]).tolist()
    return p50, p95, p99, longest
