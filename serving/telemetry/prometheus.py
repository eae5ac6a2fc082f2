"""What Prometheus reads at /metrics, with buckets for a ranker: right with several workers, by files that they share.

Imported by a worker, never before: prometheus_client chooses when it is imported whether it shares.
"""

import os
import time
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.ranking.result import ENCODE, FEATURES, MODEL, Ranked

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25)
CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SCORES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
SAMPLED = 5  # scores of an answer that are counted, evenly spaced
WHOLE = "whole"
SHARED = "PROMETHEUS_MULTIPROC_DIR"


class Log(Protocol):
    """What the log of what was served counts: requests."""

    written: int
    missed: int
    failed: int


class Reloads(Protocol):
    """What who exchanges models and snapshots counts."""

    reloads: int
    failures: int


class Asks(Protocol):
    """What who asks a second model counts: requests that it did not get."""

    missed: int
    failed: int


class Metrics:
    """The metrics of one worker, by scenario; `log`, `reloader` and `shadow` count by themselves, and are looked at."""

    kind = CONTENT_TYPE_LATEST

    def __init__(
        self,
        scenarios: Iterable[str],
        log: Log | None = None,
        reloader: Reloads | None = None,
        shadow: Asks | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._tag = ""
        self._make(self.registry)
        self._watched = [
            _Watched(log, name, self.log_requests.labels(name)) for name in ("written", "missed", "failed")
        ]
        self._watched += [
            _Watched(reloader, name, self.reloads.labels(outcome))
            for name, outcome in (("reloads", "taken"), ("failures", "refused"))
        ]
        self._watched += [_Watched(shadow, name, self.shadow_requests.labels(name)) for name in ("missed", "failed")]
        self._by_scenario = {scenario: _Scenario(self, scenario) for scenario in scenarios}

    def _make(self, held: CollectorRegistry) -> None:
        histogram, counter, by = partial(Histogram, registry=held), partial(Counter, registry=held), ["scenario"]
        self.seconds = histogram("hinet_seconds", "Of a ranking, by phase", [*by, "phase"], buckets=SECONDS)
        self.candidates = histogram("hinet_candidates", "Candidates after the filters", by, buckets=CANDIDATES)
        self.score = histogram("hinet_score", f"Of {SAMPLED} items of an answer, by rank", by, buckets=SCORES)
        self.items = counter("hinet_items", "Items of all answers", by)
        self.unknown_items = counter("hinet_unknown_items", "Of those, served by the unknown row", by)
        self.unknown_users = counter("hinet_unknown_users", "Rankings for users that the model does not know", by)
        self.stale = counter("hinet_stale_rows", "Rows of features that were too old", [*by, "view"])
        self.degraded = counter("hinet_degraded", "Rankings that are not the whole truth", [*by, "reason"])
        self.requests = counter("hinet_requests", "Answers", ["path", "status"])
        self.request_seconds = histogram("hinet_request_seconds", "Until the answer", ["path"], buckets=SECONDS)
        self.log_requests = counter("hinet_log_requests", "Of the log of what was served", ["outcome"])
        self.shadow_requests = counter("hinet_shadow_requests", "Of the second model", ["outcome"])
        self.reloads = counter("hinet_reloads", "New models and snapshots, by worker", ["outcome"])
        self.model = Gauge(
            "hinet_model",
            "1: the model that answered last",
            ["tag"],
            multiprocess_mode="livemax",
            registry=held,
        )

    def ranked(self, scenario: str, ranked: Ranked) -> None:
        """Count one ranking; about 40 us."""
        self._by_scenario[scenario].count(ranked)
        if ranked.degraded:
            self.degraded.labels(scenario, ranked.degraded.split(":")[0]).inc()  # without its details
        for view, rows in ranked.stale.items():
            self.stale.labels(scenario, view).inc(rows)
        self._show_model(ranked.model)
        self._look()

    def answered(self, path: str, status: int, started: float) -> None:
        """Count one answer of HTTP, begun at `started` (perf_counter)."""
        self.requests.labels(path, status).inc()
        self.request_seconds.labels(path).observe(time.perf_counter() - started)

    def page(self) -> bytes:
        """Everything that is counted, of all workers, as Prometheus reads it."""
        self._look()
        if SHARED not in os.environ:
            return generate_latest(self.registry)
        everybody = CollectorRegistry()
        MultiProcessCollector(everybody)
        return generate_latest(everybody)

    def _show_model(self, tag: str) -> None:
        if tag != self._tag:
            if self._tag:
                self.model.labels(self._tag).set(0)
            self.model.labels(tag).set(1)
            self._tag = tag

    def _look(self) -> None:
        for watched in self._watched:
            watched.look()


class _Watched:
    """A number that something else counts, as a counter."""

    def __init__(self, of: object, name: str, counter: Counter) -> None:
        self.of, self.name, self.counter, self.seen = of, name, counter, 0

    def look(self) -> None:
        now = getattr(self.of, self.name, 0)
        if now > self.seen:
            self.counter.inc(now - self.seen)
            self.seen = now


class _Scenario:
    """The metrics of one scenario, looked up once."""

    def __init__(self, of: Metrics, scenario: str) -> None:
        self.seconds = {phase: of.seconds.labels(scenario, phase) for phase in (FEATURES, ENCODE, MODEL, WHOLE)}
        self.candidates, self.score = of.candidates.labels(scenario), of.score.labels(scenario)
        self.items = of.items.labels(scenario)
        self.unknown_items, self.unknown_users = of.unknown_items.labels(scenario), of.unknown_users.labels(scenario)

    def count(self, ranked: Ranked) -> None:
        for phase, seconds in ranked.seconds.items():
            self.seconds[phase].observe(seconds)
        self.seconds[WHOLE].observe(sum(ranked.seconds.values()))
        self.candidates.observe(ranked.considered)
        for score in ranked.scores[:: max(1, len(ranked.scores) // SAMPLED)][:SAMPLED].tolist():
            self.score.observe(score)
        self.items.inc(len(ranked.items))
        if ranked.unknown_items:
            self.unknown_items.inc(len(ranked.unknown_items))
        if ranked.unknown_user:
            self.unknown_users.inc()
