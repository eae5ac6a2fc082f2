"""A load generator as a process: POST requests that leave by a schedule, whether earlier ones are answered or not.

Open loop: departures are drawn beforehand (Poisson, or evenly spaced), and a latency counts from the scheduled
departure, so that a queue in front of a slow server is measured (G. Tene, How NOT to Measure Latency, 2013). Closed
loop (`rate` 0): each connection sends its next request after its answer; it measures throughput. The load is bounded in
time and in requests in flight, and sent to 127.0.0.1 only.

It is our own because the generators in the registries do not schedule departures: at 100 requests/s against a server
that stalls for a second, hey 0.1.4 left out 5 % of the requests, wrk 4.1 and locust 2 are closed loops (a median of
45 ms with locust where the server takes 1 ms), and autocannon 8 reports a median of 345 ms (measured 2026-11-30).
"""

import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from common import stage
from common.errors import ParameterError

REQUEST_TIMEOUT = 10.0  # seconds; also how long the last answers are waited for
MAX_SECONDS = 3600.0
MAX_IN_FLIGHT = 2000  # requests: a departure beyond them fails at once
NO_ANSWER, NOT_SENT = 0, -1  # instead of a status
REPORT_SECONDS = 10.0
BEGINS = "load begins at"  # printed with the reading of the machine's monotonic clock
DEGRADED = b'"degraded":"'  # in an answer: followed by the reason, if there is one
HEADERS = {"Content-Type": "application/json"}


@dataclass
class OutcomeLog:
    """Per request: scheduled departure, lateness and latency (s), HTTP status, index of the body, degraded or not."""

    scheduled: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    body: list[int] = field(default_factory=list)
    degraded: list[bool] = field(default_factory=list)

    def add(self, **values: float) -> None:
        """Add a request: a value for every list."""
        for name, column in vars(self).items():
            column.append(values[name])

    def write(self, path: Path) -> None:
        """Write the requests in the order of departure as a NumPy archive."""
        order = np.argsort(self.scheduled, kind="stable")
        columns: dict[str, Any] = {name: np.array(values)[order] for name, values in vars(self).items()}
        np.savez(path, **columns)


def load(
    *,
    url: str,
    bodies: Path,
    out: Path,
    rate: float,
    seconds: float,
    connections: int = 256,
    poisson: bool = True,
    seed: int = 1,
    answers: Path | None = None,
) -> None:
    """Send the lines of `bodies` in turn to `url`, `rate` requests a second (0: closed loop) for `seconds`.

    Args:
        url: an address of 127.0.0.1.
        bodies: file with a JSON body per line.
        out: NumPy archive of the outcomes.
        rate: requests per second; 0: closed loop.
        seconds: length of the load.
        connections: the most connections.
        poisson: departures of a Poisson process; else evenly spaced.
        seed: of the departures.
        answers: file for every different answer to each body, as JSON lines.
    """
    if urlsplit(url).hostname != "127.0.0.1":
        raise ParameterError(f"--url {url}: load is sent to 127.0.0.1 only")
    if not 0 < seconds <= MAX_SECONDS or rate < 0 or connections < 1:
        raise ParameterError(
            f"expected 0 < --seconds <= {MAX_SECONDS:.0f}, --rate >= 0 and --connections >= 1, "
            f"found {seconds}, {rate} and {connections}"
        )
    sender = Sender(url, bodies.read_bytes().splitlines(), keep=answers is not None)
    schedule = None if rate == 0 else departures(rate, seconds, poisson=poisson, seed=seed)
    uvloop.run(sender.run(schedule, seconds, connections))
    sender.outcomes.write(out)
    if answers is not None:
        answers.write_bytes(b"".join(line + b"\n" for line in sender.answers()))


def departures(rate: float, seconds: float, *, poisson: bool, seed: int) -> NDArray[np.float64]:
    """Departures in seconds from the start, ascending: `rate` per second on average."""
    count = round(rate * seconds)
    if not poisson:
        return np.arange(count) / rate
    return np.sort(np.random.default_rng(seed).uniform(0, seconds, count))  # a Poisson process, given its count


class Sender:
    """Sends bodies to one address and keeps the outcomes."""

    def __init__(self, url: str, bodies: list[bytes], *, keep: bool) -> None:
        self.url, self.bodies, self.keep = url, bodies, keep
        self.outcomes, self.in_flight = OutcomeLog(), 0
        self._answers: dict[tuple[int, int, bytes], float] = {}  # by body, status and answer: its first departure
        self._started = self._reported = 0.0

    async def run(self, schedule: NDArray[np.float64] | None, seconds: float, connections: int) -> None:
        """Send by the schedule, or back to back for `seconds`; wait at most REQUEST_TIMEOUT for the last answers."""
        connector = aiohttp.TCPConnector(limit=connections)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=HEADERS) as session:
            self._started = time.perf_counter()
            print(f"{BEGINS} {self._started}", flush=True)
            if schedule is not None:
                await self._by_schedule(session, schedule)
            else:
                await asyncio.gather(*(self._back_to_back(session, seconds) for _ in range(connections)))

    def answers(self) -> list[bytes]:
        """Every different answer as JSON: index of the body, seconds from the start, status and answer."""
        lines = []
        for (body, status, text), departure in self._answers.items():
            answer = orjson.Fragment(text) if status == 200 else text.decode(errors="replace")
            lines.append(orjson.dumps({"body": body, "seconds": departure, "status": status, "answer": answer}))
        return lines

    async def _by_schedule(self, session: aiohttp.ClientSession, schedule: NDArray[np.float64]) -> None:
        async with asyncio.TaskGroup() as group:
            for number, departure in enumerate(schedule.tolist()):
                if (early := departure - self._now()) > 0:
                    await asyncio.sleep(early)
                self._report(departure)
                if self.in_flight >= MAX_IN_FLIGHT:
                    self._add(departure, NOT_SENT, number % len(self.bodies), late=self._now() - departure)
                else:
                    group.create_task(self._send(session, number, departure))

    async def _back_to_back(self, session: aiohttp.ClientSession, seconds: float) -> None:
        while (now := self._now()) < seconds:
            self._report(now)
            await self._send(session, len(self.outcomes.status) + self.in_flight, now)

    async def _send(self, session: aiohttp.ClientSession, number: int, departure: float) -> None:
        self.in_flight += 1
        body, late = number % len(self.bodies), self._now() - departure
        try:
            async with session.post(self.url, data=self.bodies[body]) as response:
                text, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            text, status = b"", NO_ANSWER
        latency = self._now() - departure
        self._add(departure, status, body, late=late, latency=latency, degraded=DEGRADED in text)
        self.in_flight -= 1
        if self.keep:
            self._answers.setdefault((body, status, text), departure)

    def _add(
        self, departure: float, status: int, body: int, *, late: float, latency: float = 0.0, degraded: bool = False
    ) -> None:
        self.outcomes.add(scheduled=departure, late=late, latency=latency, status=status, body=body, degraded=degraded)

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _report(self, departure: float) -> None:
        if departure - self._reported >= REPORT_SECONDS:
            self._reported = departure
            failed = sum(status != 200 for status in self.outcomes.status)
            done = f"{len(self.outcomes.status):,} answers, {failed} failed, {self.in_flight} in flight"
            print(f"  {departure:6.0f} s: {done}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    stage.run(load)
