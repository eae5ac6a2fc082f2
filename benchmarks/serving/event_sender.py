"""A client of POST /events that sends a request until it is acknowledged, and knows what the sessions are then."""

import asyncio
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aiohttp
import numpy as np
import orjson

from benchmarks.serving.bodies import vocabulary
from benchmarks.serving.load import HEADERS, NO_ANSWER
from common.errors import PipelineError
from features.session.events import Events
from models.model_folder import Model

PER_REQUEST = 10  # reports: half of them new impressions, half the labels of those of the request before
TIMEOUT, PAUSE, LONGEST_PAUSE = 5.0, 0.5, 8.0  # seconds: for an answer, and before the next attempts
LAST_ANSWERS = 120.0  # seconds
Known = tuple[int, Any, int, float]  # timestamp (us), item, index of the scenario, label (NaN: unknown)


@dataclass
class Sent:
    """What was sent: the events of each user by id as their reports say, and what came of the requests."""

    known: dict[Any, dict[int, Known]] = field(default_factory=lambda: defaultdict(dict))
    reports: int = 0
    requests: int = 0
    refusals: Counter[int] = field(default_factory=Counter)  # attempts without an acknowledgement, by status (0: none)
    waits: list[float] = field(default_factory=list)  # seconds until each request was acknowledged


class EventSender:
    """Sends `rate` reports per second to the service at `url` in a thread, from the block's begin to its end."""

    def __init__(self, model: Model, url: str, rate: float, seed: int = 1) -> None:
        self.schema, self.url, self.rate, self.sent = model.schema, f"{url}/events", rate, Sent()
        self._random = np.random.default_rng(seed)
        self._users, self._items = (vocabulary(model, name) for name in (self.schema.user, self.schema.item))
        self._shown: list[dict[str, Any]] = []
        self._stopped, self._ended, self._fault = threading.Event(), threading.Event(), list[BaseException]()
        self._thread = threading.Thread(target=self._run, name="events")

    def __enter__(self) -> "EventSender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()  # after a fault of the benchmark nothing is waited for
        self._stopped.set()
        self._thread.join()

    def stop(self) -> Sent:
        """Send no more, and wait until all is acknowledged; raises PipelineError where that does not happen."""
        self._stopped.set()
        self._thread.join()
        if self._fault:
            raise PipelineError(f"{self.url}: the load of events ended: {self._fault[0]!r}")
        return self.sent

    def _run(self) -> None:
        try:
            asyncio.run(self._send_all())
        except BaseException as fault:
            self._fault.append(fault)

    async def _send_all(self) -> None:
        timeout, every = aiohttp.ClientTimeout(total=TIMEOUT), PER_REQUEST / self.rate
        connector = aiohttp.TCPConnector(limit=0)  # a limit would let attempts time out that were never made
        async with aiohttp.ClientSession(headers=HEADERS, timeout=timeout, connector=connector) as session:
            began, tasks = time.monotonic(), set[asyncio.Task[None]]()
            while not self._stopped.is_set():
                tasks.add(asyncio.create_task(self._send(session, orjson.dumps(self._next()))))
                self.sent.requests += 1
                await asyncio.sleep(max(0.0, began + self.sent.requests * every - time.monotonic()))
            async with asyncio.timeout(LAST_ANSWERS):
                await asyncio.gather(*tasks)

    async def _send(self, session: aiohttp.ClientSession, body: bytes) -> None:
        """Send a body until it is acknowledged, after longer and longer pauses: no storm on a service that starts."""
        began, pause = time.monotonic(), PAUSE
        while (status := await self._attempt(session, body)) != HTTPStatus.OK:
            self.sent.refusals[status] += 1
            if self._ended.is_set():
                return
            await asyncio.sleep(self._random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE)
        self.sent.waits.append(time.monotonic() - began)

    async def _attempt(self, session: aiohttp.ClientSession, body: bytes) -> int:
        """The status of the answer, NO_ANSWER without one; raises PipelineError where the request is wrong."""
        try:
            async with session.post(self.url, data=body) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return NO_ANSWER
        if response.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY):
            raise PipelineError(f"{self.url}: {response.status}, {answer.decode()}")
        return response.status

    def _next(self) -> list[dict[str, Any]]:
        """The reports of the next request: new impressions, and the labels of those before."""
        task, now = self.schema.rated[0], datetime.now(UTC)
        first = self.sent.reports
        labelled = [event | {"labels": {task: int(self._random.integers(2))}} for event in self._shown]
        self._shown = [self._impression(first + index, now) for index in range(PER_REQUEST // 2)]
        for event in (*labelled, *self._shown):
            scenario = self.schema.scenarios.index(event["scenario"])
            label = float(event.get("labels", {}).get(task, "nan"))
            microseconds = round(now.fromisoformat(event["timestamp"]).timestamp() * 1e6)
            self.sent.known[event["user_id"]][event["event_id"]] = (microseconds, event["item_id"], scenario, label)
        self.sent.reports += len(labelled) + len(self._shown)
        return [*self._shown, *labelled]

    def _impression(self, event_id: int, now: datetime) -> dict[str, Any]:
        user, item = (values[self._random.integers(len(values))] for values in (self._users, self._items))
        scenario = self.schema.scenarios[self._random.integers(len(self.schema.scenarios))]
        shown = {"event_id": event_id, "user_id": user, "item_id": item, "scenario": scenario}
        return shown | {"timestamp": now.isoformat()}


def compare(sent: Sent, users: list[Any], sessions: Events, *, kept: int, task: int) -> tuple[int, int]:
    """How many of the newest `kept` events of each user the sessions lack or have otherwise, and have twice.

    The codes of `sessions` are indices of `users`, `task` is the index of the outcome that was sent. An event that
    nobody sent counts as one that is there twice.
    """
    stored: dict[Any, list[tuple[int, Known]]] = defaultdict(list)
    values = (sessions.timestamps, sessions.items, sessions.scenarios, sessions.outcomes[:, task])
    ids = (sessions.users, sessions.event_ids)
    for user, event_id, *event in zip(*(column.tolist() for column in (*ids, *values)), strict=True):
        stored[users[user]].append((event_id, tuple(event)))
    lost = twice = 0
    for user, known in sent.known.items():
        newest = dict(sorted(known.items(), key=lambda event: (event[1][0], event[0]))[-kept:])
        correct = {event_id for event_id, event in stored[user] if repr(newest.get(event_id)) == repr(event)}
        lost += len(newest) - len(correct)
        twice += len(stored[user]) - len({event_id for event_id, _ in stored[user] if event_id in newest})
    return lost, twice
