"""The runs of the chaos benchmark of events: what is killed, started again, and what came of events and rankings."""

import json as text
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.serving.bodies import sample_requests, write_bodies
from benchmarks.serving.event_load import CANDIDATES, EventLoad, project_with_sessions
from benchmarks.serving.event_rates import DURABLE
from benchmarks.serving.event_sender import EventSender, Sent, compare
from benchmarks.serving.machine import machine, report_progress
from benchmarks.serving.points import Outcomes, RunningLoad, percentiles
from benchmarks.serving.servers import (
    OURS,
    Server,
    consume_events,
    end_servers_on_sigterm,
    free_port,
    redis_server,
    serve,
)
from benchmarks.serving.stores import REDIS, SQLITE, fill_redis
from common.errors import ParameterError, PipelineError
from common.files import write_text
from common.paths import FEATURES
from common.settings import variable
from features.engine.session_view import session_views
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.queues import FAULTS as FAULTS_OF_STORE
from serving.events.queues import open_queue

DOWN = 2.0  # seconds until what was killed is started again
WITHIN = 0.2  # of a period: a kill happens at a random time of so much of it
DRAIN = 60.0  # seconds for the last events to be applied
CONSUMER, SERVICE, WORKER, SERVER = "consumer", "service", "one of two workers", "Redis"
FAULTS = ((SQLITE, CONSUMER), (SQLITE, SERVICE), (SQLITE, WORKER), (REDIS, CONSUMER), (REDIS, SERVICE), (REDIS, SERVER))


@dataclass(frozen=True, kw_only=True)
class ChaosResult:
    """What came of events and rankings while something was killed `times` times.

    `errors` are rankings without an answer, `statuses` how many had which (0: none), `p99` is in ms, `gap` the
    longest time (s) without a ranking. `refused` are attempts to send events that were not acknowledged, `wait` is the
    longest time (s) until one was, `still` the longest time (s) without a new event in the sessions. `lost` and `twice`
    count events in the sessions, `queued` the entries of the queue, which are as many as `reports` were sent.
    """

    store: str
    killed: str
    times: int
    rankings: int
    errors: int
    degraded: int
    p99: float
    gap: float
    refused: int
    wait: float
    still: float
    reports: int
    queued: int
    lost: int
    twice: int
    statuses: dict[str, dict[str, int]]


class Restartable:
    """A server that can be killed, with all its processes, and started again by the same function."""

    def __init__(self, start: Callable[[], AbstractContextManager[Server]]) -> None:
        self._start, self._running = start, ExitStack()

    def __enter__(self) -> "Restartable":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.server = self._running.enter_context(self._start())

    def kill(self) -> None:
        """Kill all its processes at once."""
        for process in self.server.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._running.close()

    def kill_worker(self) -> None:
        """Kill one of the processes that answer, which the service starts again."""
        (*_, worker) = [
            one for one in self.server.process.children(recursive=True) if "worker" in " ".join(one.cmdline())
        ]
        worker.kill()


def run(json: Path, *, project: Path | None, load: tuple[float, float], times: int, period: float, only: str) -> None:
    """Cause the chosen faults; print the table and write the report; arguments as of the command."""
    end_servers_on_sigterm()
    faults, results = select_faults(only), []
    with TemporaryDirectory(prefix="hinet-chaos-") as scratch:
        project = project_with_sessions(project, Path(scratch))
        for number, (store, killed) in enumerate(faults):
            chaos = Chaos(project, Path(scratch) / str(number), store, killed)
            results.append(asdict(chaos.cause(load, times, period)))
            report_progress(", ".join(f"{name} {value}" for name, value in results[-1].items()))
    report = {"machine": machine(), "events_and_rankings_per_second": load, "period": period, "faults": results}
    write_text(json, text.dumps(report, indent=1) + "\n")
    show(results)
    if any(result["lost"] or result["twice"] for result in results):
        raise PipelineError("events were lost or counted twice: see the table")


def select_faults(only: str) -> list[tuple[str, str]]:
    """The store and what is killed of the faults that contain a word of `only`; all of them if it is empty."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    chosen = [fault for fault in FAULTS if not words or any(word in ", ".join(fault) for word in words)]
    if not chosen:
        names = "; ".join(", ".join(fault) for fault in FAULTS)
        raise ParameterError(f"--only {only}: expected a word of: {names}")
    return chosen


class Chaos:
    """A service, its consumer and a store in the folder `scratch`, of which `killed` is killed."""

    def __init__(self, project: Path, scratch: Path, store: str, killed: str) -> None:
        self.scratch, self.store, self.killed = scratch, store, killed
        self.project, self.load = project, EventLoad(project, scratch)
        self.model, self.folder = self.load.model, scratch / "events"
        self.address: str | None = None

    def cause(self, load: tuple[float, float], times: int, period: float) -> ChaosResult:
        """Kill it `times` times, once in each `period` of seconds, under a load of events and rankings per second."""
        events, rankings = load
        bodies = write_bodies(self.scratch / "rank.jsonl", sample_requests(self.model, CANDIDATES, 1000))
        with ExitStack() as running:
            targets = self._started(running)
            server = targets[SERVICE].server
            with (
                EventSender(self.model, server.url, events) as sender,
                Watch(self) as watch,
                RunningLoad(server, bodies, rate=rankings, seconds=times * period) as ranked,
            ):
                for number in range(times):
                    time.sleep(max(0.0, number * period + random.uniform(1, 1 + WITHIN * period) - ranked.elapsed))
                    self._kill(targets)
                outcomes, sent = ranked.result(), sender.stop()
            return self._result(times, outcomes, sent, watch.longest)

    def _started(self, running: ExitStack) -> dict[str, Restartable]:
        """The servers, which end with `running`."""
        environment, targets = self.load.environment | {variable("events"): str(self.folder)}, {}
        if self.store == REDIS:
            port = free_port()
            folder = ("--dir", str(self.scratch))
            targets[SERVER] = running.enter_context(Restartable(lambda: _redis(*DURABLE, *folder, port=port)))
            fill_redis(port, self.model, self.project / FEATURES)
            self.address = f"127.0.0.1:{port}"
            environment[variable("redis")] = self.address
        workers, listening = 2 if self.killed == WORKER else 1, free_port()
        starts: dict[str, Callable[[], AbstractContextManager[Server]]] = {
            SERVICE: lambda: serve(OURS, workers=workers, environment=environment, port=listening),
            CONSUMER: lambda: consume_events(environment),
        }
        return targets | {name: running.enter_context(Restartable(start)) for name, start in starts.items()}

    def _kill(self, targets: dict[str, Restartable]) -> None:
        """Kill the target; start it again when it was down for a while. A worker is started by the service."""
        if self.killed == WORKER:
            return targets[SERVICE].kill_worker()
        targets[self.killed].kill()
        time.sleep(DOWN)
        return targets[self.killed].start()

    def sessions(self) -> LiveSessions:
        """The sessions in the store."""
        schema, (view, *_) = self.model.schema, session_views(self.model.views)
        registry = self.scratch / f"live-{time.monotonic_ns()}.db"
        return LiveSessions(
            open_live_store(schema, view, folder=self.folder, registry=registry, redis=self.address), schema, view
        )

    def _result(self, times: int, outcomes: Outcomes, sent: Sent, still: float) -> ChaosResult:
        schema, sessions, users = self.model.schema, self.sessions(), list(sent.known)
        with closing(open_queue(self.folder, self.address)) as queue:
            until = time.monotonic() + DRAIN
            while queue.behind(sessions.applied(queue.identity)) and time.monotonic() < until:
                time.sleep(0.1)
            queued = len(queue.after(0, 2 * sent.reports))
        task = schema.averaged.index(schema.rated[0])
        lost, twice = compare(sent, users, sessions.read(users), kept=sessions.kept, task=task)
        answered = outcomes.scheduled + outcomes.latency / 1e3
        return ChaosResult(
            store=self.store,
            killed=self.killed,
            times=times,
            rankings=len(outcomes.status),
            errors=outcomes.errors,
            degraded=int(outcomes.degraded.sum()),
            p99=percentiles(outcomes.latency)[2],
            gap=float(np.diff(np.sort(answered[outcomes.status == 200])).max()),
            refused=sent.refusals.total(),
            wait=max(sent.waits),
            still=still,
            reports=sent.reports,
            queued=queued,
            lost=lost,
            twice=twice,
            statuses={"rankings": _by_name(Counter(outcomes.status.tolist())), "refused": _by_name(sent.refusals)},
        )


def _by_name(counts: Counter[int]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(counts.items())}


class Watch:
    """Measures in a thread how long no event reaches the sessions: the `longest` time (s) so far."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos, self.longest, self._stopped = chaos, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        sessions, applied, changed = self.chaos.sessions(), -1, time.monotonic()
        with closing(open_queue(self.chaos.folder, self.chaos.address)) as queue:
            identity = queue.identity
            while not self._stopped.wait(0.05):
                number = applied
                with suppress(*FAULTS_OF_STORE):
                    number = sessions.applied(identity)  # it may wait for seconds
                self.longest = max(self.longest, time.monotonic() - changed)
                if number != applied:
                    applied, changed = number, time.monotonic()


@contextmanager
def _redis(*options: str, port: int) -> Iterator[Server]:
    with redis_server(*options, port=port) as (_, process):
        yield Server(f"redis://127.0.0.1:{port}", process, Path(), 0.0)


def show(results: list[dict[str, Any]]) -> None:
    """Print a line for each fault."""
    columns = [name for name in ChaosResult.__annotations__ if name != "statuses"]
    table = Table(*columns, title="killed again and again")
    for result in results:
        values = (result[name] for name in columns)
        table.add_row(*(f"{value:,.1f}" if isinstance(value, float) else str(value) for value in values))
    Console(width=160).print(table)
