"""Figures of the consumer of events, from its metrics and from the kernel, and of a load."""

import time
from pathlib import Path

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving.points import Outcomes, percentiles
from benchmarks.serving.servers import Server, get
from common.errors import PipelineError

DRAIN_SECONDS = 120.0
APPLIED, LAG = "hinet_events_applied_total", "hinet_event_lag_seconds"
STATUS, PEAK, RESIDENT = "/proc/{}/status", "VmHWM", "VmRSS"  # in kB
Figures = dict[str, float]


def wait_until_applied(consumer: Server, count: int, began: float) -> float:
    """Wait until the consumer has applied `count` events; the seconds since `began`."""
    while (applied := samples(consumer)[APPLIED]) < count:
        if time.monotonic() - began > DRAIN_SECONDS + count / 100:
            raise PipelineError(f"{consumer.url}: {applied:.0f} of {count} events are applied: lower --rate")
        time.sleep(0.05)
    return time.monotonic() - began


def samples(consumer: Server) -> Figures:
    """The values at the consumer's /metrics by name; of buckets by name and upper bound."""
    page = get(consumer.url + "/metrics").decode()
    values = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return {sample.name + sample.labels.get("le", ""): sample.value for sample in values}


def lag(values: Figures) -> Figures:
    """Milliseconds from the answer to the feature (p50, p99, mean), and the share within tenths of a second."""
    name = f"{LAG}_bucket"
    counts = {float(key.removeprefix(name)): value for key, value in values.items() if key.startswith(name)}
    bounds = np.array(sorted(counts))
    shares = np.array([counts[bound] for bound in bounds]) / values[f"{LAG}_count"]
    p50, p99 = 1e3 * np.interp([0.5, 0.99], np.r_[0, shares[:-1]], np.r_[0, bounds[:-1]])  # as histogram_quantile
    within = {f"within_{bound:g}_s": float(shares[bounds == bound][0]) for bound in (0.1, 0.5, 1.0)}
    return {"p50": float(p50), "p99": float(p99), "mean": 1e3 * values[f"{LAG}_sum"] / values[f"{LAG}_count"]} | within


def latencies(outcomes: Outcomes) -> Figures:
    """Requests, errors, degraded answers and percentiles in ms."""
    p50, _, p99, longest = percentiles(outcomes.latency)
    counts = {"requests": len(outcomes.status), "errors": outcomes.errors, "degraded": int(outcomes.degraded.sum())}
    return counts | {"p50": p50, "p99": p99, "longest": longest}


def peak_megabytes(server: Server) -> float:
    """The most resident memory so far of the largest of its processes, by the kernel; an ended one has none.

    Raises PipelineError where the kernel does not count it.
    """
    return max(_peak_kilobytes(STATUS.format(process.pid)) for process in server.processes()) * 1024 / 1e6


def _peak_kilobytes(status: str) -> int:
    try:
        values = dict(line.split(":", 1) for line in Path(status).read_text(encoding="utf-8").splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    if RESIDENT not in values:  # ended, and not waited for yet
        return 0
    if PEAK not in values:
        raise PipelineError(f"{status}: there is no {PEAK}, the peak of a process; measure on a kernel that counts it")
    return int(values[PEAK].split()[0])
