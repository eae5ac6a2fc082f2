"""Metrics for Prometheus at /metrics, with buckets for a ranker; summed over the workers by files that they share.

Only a worker imports this module: prometheus_client decides at its import whether its values are shared.
"""

import os
import time
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.ranking.ab_split import CHALLENGER
from serving.ranking.request import RankRequest
from serving.ranking.result import ENCODE, FEATURES, MODEL, RankingResult, ScoredCandidates

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25)
CANDIDATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
SCORES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
SCORES_PER_ANSWER = 5  # observed, evenly spaced by rank
WHOLE = "whole"  # all phases together
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # environment variable


class LogCounts(Protocol):
    """Requests that the impression log has counted."""

    written: int
    missed: int
    failed: int


class ReloadCounts(Protocol):
    """New models and snapshots that hot reload has counted."""

    reloads: int
    failures: int


class ShadowCounts(Protocol):
    """Requests that the shadow model did not get."""

    missed: int
    failed: int


class ServiceMetrics:
    """The metrics of one worker, by scenario; the counts of `log`, `reloader` and `shadow` are copied when needed."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self,
        scenarios: Iterable[str],
        log: LogCounts | None = None,
        reloader: ReloadCounts | None = None,
        shadow: ShadowCounts | None = None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._tag = ""
        self._make_metrics(self.registry)
        self._copied = [
            _CopiedCount(log, name, self.log_requests.labels(name)) for name in ("written", "missed", "failed")
        ]
        self._copied += [
            _CopiedCount(reloader, name, self.reloads.labels(outcome))
            for name, outcome in (("reloads", "taken"), ("failures", "refused"))
        ]
        self._copied += [_CopiedCount(shadow, name, self.shadow_requests.labels(name)) for name in ("missed", "failed")]
        self._by_scenario = {scenario: _ScenarioMetrics(self, scenario) for scenario in scenarios}

    def _make_metrics(self, registry: CollectorRegistry) -> None:
        histogram, counter, by = (
            partial(Histogram, registry=registry),
            partial(Counter, registry=registry),
            ["scenario"],
        )
        self.seconds = histogram("hinet_seconds", "Of a ranking, by phase", [*by, "phase"], buckets=SECONDS)
        self.candidates = histogram("hinet_candidates", "Candidates after the filters", by, buckets=CANDIDATES)
        self.score = histogram("hinet_score", f"Of {SCORES_PER_ANSWER} items of an answer, by rank", by, buckets=SCORES)
        self.items = counter("hinet_items", "Items of all answers", by)
        self.unknown_items = counter("hinet_unknown_items", "Of those, without an embedding of their own", by)
        self.unknown_users = counter("hinet_unknown_users", "Rankings for users that the model does not know", by)
        self.unknown_values = counter("hinet_unknown_values", "Rankings with an unknown value", [*by, "column"])
        self.untrained = counter("hinet_untrained_scenario", "Rankings in a scenario without training rows", by)
        self.outdated = counter("hinet_stale_rows", "Rows of features that were too old", [*by, "view"])
        self.degraded = counter("hinet_degraded", "Rankings without the features or the model", [*by, "reason"])
        self.requests = counter("hinet_requests", "Answers", ["path", "status"])
        self.request_seconds = histogram("hinet_request_seconds", "Until the answer", ["path"], buckets=SECONDS)
        self.log_requests = counter("hinet_log_requests", "Of the scored-impression log", ["outcome"])
        self.events = counter("hinet_events", "Of POST /events", ["outcome"])
        self.shadow_requests = counter("hinet_shadow_requests", "Of the shadow model", ["outcome"])
        self.ab_rankings = counter("hinet_ab_rankings", "Of an A/B test, by the user's arm", [*by, "arm", "outcome"])
        self.ab_seconds = histogram("hinet_ab_seconds", "Of a ranking in an A/B test", ["arm"], buckets=SECONDS)
        self.reloads = counter("hinet_reloads", "New models and snapshots, by worker", ["outcome"])
        self.ab_challenger = Gauge(
            "hinet_ab_challenger",
            "1: a challenger that has answered",
            ["tag"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.model = Gauge(
            "hinet_model",
            "1: the model that answered last",
            ["tag"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def ranked(self, request: RankRequest, result: RankingResult, _: ScoredCandidates | None = None) -> None:
        """Count a ranking (a ranking observer); takes about 40 us."""
        scenario = request.scenario
        self._by_scenario[scenario].count(result)
        if result.degraded:
            self.degraded.labels(scenario, result.degraded.split(":")[0]).inc()  # without its details
        for column in result.unknown_columns:
            self.unknown_values.labels(scenario, column).inc()
        if result.untrained_scenario:
            self.untrained.labels(scenario).inc()
        for view, rows in result.outdated.items():
            self.outdated.labels(scenario, view).inc(rows)
        if result.arm is not None:
            self._count_arm(scenario, result, result.arm)
        if result.arm != CHALLENGER or result.replaced:
            self._show_model(result.model)
        self._copy_counts()

    def answered(self, path: str, status: int, started: float) -> None:
        """Count an HTTP response that began at `started` (perf_counter)."""
        self.requests.labels(path, status).inc()
        self.request_seconds.labels(path).observe(time.perf_counter() - started)

    def received(self, accepted: int, duplicates: int) -> None:
        """Count the events of a request."""
        self.events.labels("accepted").inc(accepted)
        self.events.labels("duplicate").inc(duplicates)

    def page(self) -> bytes:
        """The metrics of all workers in the text format of Prometheus."""
        self._copy_counts()
        if SHARED_FOLDER not in os.environ:
            return generate_latest(self.registry)
        all_workers = CollectorRegistry()
        MultiProcessCollector(all_workers)  # type: ignore[no-untyped-call]
        return generate_latest(all_workers)

    def _count_arm(self, scenario: str, result: RankingResult, arm: str) -> None:
        """Count a ranking of an A/B test: by the model of its arm, or by the champion in place of the challenger."""
        outcome = {None: "own", "failed": "replaced", "late": "late"}[result.replaced]
        self.ab_rankings.labels(scenario, arm, outcome).inc()
        self.ab_seconds.labels(arm).observe(sum(result.seconds.values()))
        if arm == CHALLENGER and not result.replaced:
            self.ab_challenger.labels(result.model).set(1)

    def _show_model(self, tag: str) -> None:
        if tag != self._tag:
            if self._tag:
                self.model.labels(self._tag).set(0)
            self.model.labels(tag).set(1)
            self._tag = tag

    def _copy_counts(self) -> None:
        for count in self._copied:
            count.copy()


class _CopiedCount:
    """A counter that follows an attribute of another object."""

    def __init__(self, source: object, name: str, counter: Counter) -> None:
        self.source, self.name, self.counter, self.copied = source, name, counter, 0

    def copy(self) -> None:
        now = getattr(self.source, self.name, 0)
        if now > self.copied:
            self.counter.inc(now - self.copied)
            self.copied = now


class _ScenarioMetrics:
    """The metrics of one scenario, with their labels looked up once."""

    def __init__(self, metrics: ServiceMetrics, scenario: str) -> None:
        self.seconds = {phase: metrics.seconds.labels(scenario, phase) for phase in (FEATURES, ENCODE, MODEL, WHOLE)}
        self.candidates, self.score = metrics.candidates.labels(scenario), metrics.score.labels(scenario)
        self.items = metrics.items.labels(scenario)
        self.unknown_items = metrics.unknown_items.labels(scenario)
        self.unknown_users = metrics.unknown_users.labels(scenario)

    def count(self, result: RankingResult) -> None:
        for phase, seconds in result.seconds.items():
            self.seconds[phase].observe(seconds)
        self.seconds[WHOLE].observe(sum(result.seconds.values()))
        self.candidates.observe(result.considered)
        step = max(1, len(result.scores) // SCORES_PER_ANSWER)
        for score in result.scores[::step][:SCORES_PER_ANSWER].tolist():
            self.score.observe(score)
        self.items.inc(len(result.items))
        if result.unknown_items:
            self.unknown_items.inc(len(result.unknown_items))
        if result.unknown_user:
            self.unknown_users.inc()
