"""A load generator, in a process of its own: POST requests that leave by a schedule, answered or not.

Open loop: the moments of departure are drawn beforehand (Poisson, or even), and a latency counts from its moment, so
that a queue in front of a slow server is seen, in the server or here (G. Tene, How NOT to Measure Latency, 2013).
Closed loop (`rate` 0): each connection sends its next request when it has its answer; it measures throughput. Bounded
in time and in requests under way, and loopback only.
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

TOOK_LONG = 10.0  # seconds after which a request is given up; also what is waited for at the end
MOST_SECONDS = 3600.0
UNDER_WAY = 2000  # requests: what would leave while so many are under way fails at once
NO_ANSWER, TOO_MANY = 0, -1  # in the place of a status
REPORT_SECONDS = 10.0
BEGINS = "load begins at"  # said with the reading of the machine's monotonic clock
DEGRADED = b'"degraded":"'  # of an answer: followed by the reason, where there is one
HEADERS = {"Content-Type": "application/json"}


@dataclass
class Outcome:
    """Per request, in the order of departure: moment and lateness (s), latency (s), HTTP status, the body's number.

    `degraded`: the answer says that it is not the whole truth.
    """

    scheduled: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    body: list[int] = field(default_factory=list)
    degraded: list[bool] = field(default_factory=list)

    def add(self, **facts: float) -> None:
        """Keep one request: a value for every list."""
        for name, kept in vars(self).items():
            kept.append(facts[name])

    def write(self, path: Path) -> None:
        """As a NumPy archive."""
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

    Writes latencies to `out` (.npz); with `answers`, every different answer of each body, as JSON lines.
    """
    if urlsplit(url).hostname != "127.0.0.1":
        raise ParameterError(f"--url {url}: load is sent to 127.0.0.1 only")
    if not 0 < seconds <= MOST_SECONDS or rate < 0 or connections < 1:
        raise ParameterError(
            f"expected 0 < --seconds <= {MOST_SECONDS:.0f}, --rate >= 0 and --connections >= 1, "
            f"found {seconds}, {rate} and {connections}"
        )
    sender = Sender(url, bodies.read_bytes().splitlines(), keep=answers is not None)
    moments = None if rate == 0 else departures(rate, seconds, poisson=poisson, seed=seed)
    uvloop.run(sender.run(moments, seconds, connections))
    sender.outcome.write(out)
    if answers is not None:
        answers.write_bytes(b"".join(line + b"\n" for line in sender.answers()))


def departures(rate: float, seconds: float, *, poisson: bool, seed: int) -> NDArray[np.float64]:
    """When requests leave, in seconds from the start, ascending: `rate` per second on average."""
    count = round(rate * seconds)
    if not poisson:
        return np.arange(count) / rate
    return np.sort(np.random.default_rng(seed).uniform(0, seconds, count))  # a Poisson process, given its count


class Sender:
    """Sends bodies to one address and keeps what came of it."""

    def __init__(self, url: str, bodies: list[bytes], *, keep: bool) -> None:
        self.url, self.bodies, self.keep = url, bodies, keep
        self.outcome, self.under_way = Outcome(), 0
        self._answers: dict[tuple[int, int, bytes], float] = {}  # by body, status and answer: the moment of the first
        self._started = self._reported = 0.0

    async def run(self, moments: NDArray[np.float64] | None, seconds: float, connections: int) -> None:
        """Send at the `moments`, or back to back for `seconds`; at most TOOK_LONG later it is over."""
        connector = aiohttp.TCPConnector(limit=connections)
        patience = aiohttp.ClientTimeout(total=TOOK_LONG)
        async with aiohttp.ClientSession(connector=connector, timeout=patience, headers=HEADERS) as session:
            self._started = time.perf_counter()
            print(f"{BEGINS} {self._started}", flush=True)
            if moments is not None:
                await self._by_schedule(session, moments)
            else:
                await asyncio.gather(*(self._back_to_back(session, seconds) for _ in range(connections)))

    def answers(self) -> list[bytes]:
        """Every different answer: the body's number, seconds from the start, status and what was answered."""
        found = []
        for (body, status, text), moment in self._answers.items():
            said = orjson.Fragment(text) if status == 200 else text.decode(errors="replace")
            found.append(orjson.dumps({"body": body, "moment": moment, "status": status, "answer": said}))
        return found

    async def _by_schedule(self, session: aiohttp.ClientSession, moments: NDArray[np.float64]) -> None:
        async with asyncio.TaskGroup() as group:
            for number, moment in enumerate(moments.tolist()):
                if (early := moment - self._now()) > 0:
                    await asyncio.sleep(early)
                self._report(moment)
                if self.under_way >= UNDER_WAY:
                    late, body = self._now() - moment, number % len(self.bodies)
                    self.outcome.add(
                        scheduled=moment, late=late, latency=0.0, status=TOO_MANY, body=body, degraded=False
                    )
                else:
                    group.create_task(self._send(session, number, moment))

    async def _back_to_back(self, session: aiohttp.ClientSession, seconds: float) -> None:
        while (now := self._now()) < seconds:
            self._report(now)
            await self._send(session, len(self.outcome.status) + self.under_way, now)

    async def _send(self, session: aiohttp.ClientSession, number: int, moment: float) -> None:
        self.under_way += 1
        body, late = number % len(self.bodies), self._now() - moment
        try:
            async with session.post(self.url, data=self.bodies[body]) as response:
                text, status = await response.read(), response.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            text, status = b"", NO_ANSWER
        self.outcome.add(
            scheduled=moment,
            late=late,
            latency=self._now() - moment,
            status=status,
            body=body,
            degraded=DEGRADED in text,
        )
        self.under_way -= 1
        if self.keep:
            self._answers.setdefault((body, status, text), moment)

    def _now(self) -> float:
        return time.perf_counter() - self._started

    def _report(self, moment: float) -> None:
        if moment - self._reported >= REPORT_SECONDS:
            self._reported = moment
            failed = sum(status != 200 for status in self.outcome.status)
            done = f"{len(self.outcome.status):,} answers, {failed} failed, {self.under_way} under way"
            print(f"  {moment:6.0f} s: {done}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    stage.run(load)
