"""One measurement of a running server: the process of the load generator, and its latencies as figures."""

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
from numpy.typing import NDArray

from benchmarks.serving.load import BEGINS
from benchmarks.serving.servers import ENVIRONMENT, Server
from common.errors import PipelineError
from common.paths import ROOT

SLACK = 60.0  # seconds that a load may take longer than requested: its imports, and the last answers


@dataclass(frozen=True, kw_only=True)
class Point:
    """Latencies in ms from the scheduled departure; `late_p99` is the generator's own lateness among them.

    `processor_ms` is the processor time of the server's processes per answer; `stolen` the share of all cores that the
    host took meanwhile (NaN: unknown); `load_average` that of the machine at the end, over a minute. `rate` is None in
    a closed loop, which has `connections` requests in flight all the time.
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

    def as_json(self) -> dict[str, Any]:
        """The figures, rounded."""
        return {name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Outcomes:
    """Requests in the order of departure: scheduled departure (s), latencies (ms), status, whether it is degraded."""

    scheduled: NDArray[np.float64]
    late: NDArray[np.float64]
    latency: NDArray[np.float64]
    status: NDArray[np.int64]
    degraded: NDArray[np.bool_]

    def between(self, start: float, end: float) -> "Outcomes":
        """The requests that were scheduled from `start` to before `end`, in seconds."""
        inside = (self.scheduled >= start) & (self.scheduled < end)
        return Outcomes(*(values[inside] for values in vars(self).values()))

    @property
    def errors(self) -> int:
        """The number of requests without an answer of status 200."""
        return int((self.status != 200).sum())


class RunningLoad:
    """The load generator, started when the block begins and killed when it ends; `result` waits for its end."""

    def __init__(
        self,
        server: Server,
        bodies: Path,
        *,
        rate: float,
        seconds: float,
        connections: int = 256,
        method: str = "rank",
        options: Sequence[str] = (),
    ) -> None:
        """Send `bodies` to a method of `server`, POST /rank by default, `rate` per second (0: closed loop).

        Args:
            server: the server.
            bodies: file with a JSON body per line.
            rate: requests per second; 0: each connection sends its next request after its answer.
            seconds: length of the load.
            connections: the most connections.
            method: the path of the method.
            options: further options of the generator.
        """
        self.seconds, self.out = seconds, bodies.with_suffix(f".{time.monotonic_ns()}.npz")
        command = [sys.executable, "-m", "benchmarks.serving.load", "--url", f"{server.url}/{method}"]
        command += ["--bodies", str(bodies), "--out", str(self.out), "--rate", str(rate), "--seconds", str(seconds)]
        command += ["--connections", str(connections), *options]
        variables = os.environ | ENVIRONMENT
        self.process = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
        self.started = 0.0  # time.monotonic of the first departure

    def __enter__(self) -> "RunningLoad":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith(BEGINS):
            self.process.wait(SLACK)
            self.process.stdout.close()
            raise self._failed()
        self.started = float(line.removeprefix(BEGINS))
        return self

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self.started

    def result(self) -> Outcomes:
        """The outcome of every request; raises PipelineError where the generator failed."""
        if self.process.wait(self.seconds + SLACK) or not self.out.exists():
            raise self._failed()
        with np.load(self.out) as kept:
            times = (kept["scheduled"], kept["late"] * 1e3, kept["latency"] * 1e3)
            return Outcomes(*times, kept["status"], kept["degraded"])

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.out.unlink(missing_ok=True)

    def _failed(self) -> PipelineError:
        status = self.process.returncode
        return PipelineError(f"the load generator ended with status {status}; its message is above")


def measure(
    server: Server, bodies: Path, *, candidates: int, rate: float | None, seconds: float, connections: int = 256
) -> Point:
    """Measure one load.

    Args:
        server: the server.
        bodies: file with a JSON body per line.
        candidates: the number of candidates of the bodies, for the report.
        rate: requests per second; None: closed loop.
        seconds: length of the load.
        connections: the most connections.
    """
    before, stolen, started = sum(server.processor_seconds().values()), stolen_seconds(), time.monotonic()
    with RunningLoad(server, bodies, rate=rate or 0, seconds=seconds, connections=connections) as load:
        outcomes = load.result()
    taken = share_of_cores(stolen_seconds() - stolen, time.monotonic() - started)
    used, answered = sum(server.processor_seconds().values()) - before, int((outcomes.status == 200).sum())
    span = max(seconds, float((outcomes.scheduled + outcomes.latency / 1e3).max(initial=0)))
    p50, p95, p99, longest = percentiles(outcomes.latency)
    return Point(
        candidates=candidates,
        rate=rate,
        connections=connections,
        seconds=seconds,
        requests=len(outcomes.status),
        errors=outcomes.errors,
        answers_per_second=answered / span,
        p50=p50,
        p95=p95,
        p99=p99,
        longest=longest,
        late_p99=percentiles(outcomes.late)[2],
        processor_ms=used * 1e3 / max(1, answered),
        stolen=taken,
        load_average=os.getloadavg()[0],
    )


def stolen_seconds() -> float:
    """Processor seconds that the host took from this machine since it was started; NaN if unknown."""
    return float(getattr(psutil.cpu_times(), "steal", "nan"))


def share_of_cores(used: float, seconds: float) -> float:
    """Processor seconds as a share of those that all cores have in `seconds`."""
    return used / seconds / (psutil.cpu_count() or 1)


def percentiles(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Percentiles 50, 95, 99 and 100; NaN without values."""
    if not len(values):
        return (float("nan"),) * 4
    p50, p95, p99, longest = np.percentile(values, [50, 95, 99, 100]).tolist()
    return p50, p95, p99, longest
