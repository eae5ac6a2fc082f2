"""Metrics of the consumer of events for Prometheus, on a port of their own: it is a process of its own."""

import time
from collections.abc import Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 60, 600, 3600)


class Received(Protocol):
    """An entry of the queue, as far as it is measured."""

    @property
    def received(self) -> float:
        """When it was acknowledged (seconds since 1970)."""


class EventMetrics:
    """What a consumer has applied, how long after its acknowledgement, and what waits."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "hinet_events_applied", "Entries of the queue that were applied to sessions", [], registry=self.registry
        )
        self.lag = Histogram(
            "hinet_event_lag_seconds",
            "From the answer of POST /events to the feature",
            [],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.depth = Gauge("hinet_event_queue_depth", "Entries of the queue that wait", [], registry=self.registry)

    def applied(self, entries: Sequence[Received], depth: int) -> None:
        """Count entries that were applied just now; `depth` entries wait."""
        now = time.time()
        self.events.inc(len(entries))
        for entry in entries:
            self.lag.observe(max(now - entry.received, 0.0))
        self.depth.set(depth)

    def serve(self, host: str, port: int) -> int:
        """Answer GET /metrics at a port (0: any free one) from now on; the port."""
        server, _ = start_http_server(port, addr=host, registry=self.registry)
        return int(server.server_port)
