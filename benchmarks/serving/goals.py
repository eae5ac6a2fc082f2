"""The goals of the serving benchmark: limits for latency, throughput and time in one process."""

from collections.abc import Iterator
from typing import Any

from benchmarks.serving.servers import OURS, PLAIN

P99 = {(200, 100): 15.0, (500, 50): 30.0}  # ms by candidates and rate
SPEEDUP = 8.0  # throughput, relative to the plain service's
MAX_OVERHEAD = 1.5  # service time, relative to that of Feast and the forward alone
DEGRADED_P99 = {200: 5.0}  # ms of a degraded answer, by candidates


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each goal with its limit, the actual value, and whether it was reached."""
    return [*_latency(report["points"]), *_throughput(report["throughput"]), *_parts(report["inside"])]


def _latency(points: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for (candidates, rate), limit in P99.items():
        for p in points:
            if (p["candidates"], p["rate"], p["state"]) == (candidates, rate, "warm"):
                name = f"{candidates} candidates at {rate}/s, {p['store']}, {p['workers']} workers: p99, ms"
                yield _goal(name, limit, p["p99"], reached=p["p99"] <= limit and not p["errors"])


def _throughput(measured: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    rates = {(t["server"], t["workers"]): t["answers_per_second"] for t in measured}
    for workers in (1, 2):
        times = rates[OURS, workers] / rates[PLAIN, workers]
        name = f"throughput over the plain service's, {workers} workers: times"
        yield _goal(name, SPEEDUP, round(times, 2), reached=times >= SPEEDUP)


def _parts(inside: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for candidates, parts in inside.items():
        ratio = parts["service"]["median"] / (parts["feast"]["median"] + parts["forward"]["median"])
        name = f"service time over Feast and forward alone, {candidates} candidates: times"
        yield _goal(name, MAX_OVERHEAD, round(ratio, 2), reached=ratio <= MAX_OVERHEAD)
        if limit := DEGRADED_P99.get(int(candidates)):
            p99 = parts["degraded"]["p99"]
            name = f"service time of a degraded answer, {candidates} candidates: p99, ms"
            yield _goal(name, limit, round(p99, 2), reached=p99 <= limit)


def _goal(name: str, limit: float, actual: float, *, reached: bool) -> dict[str, Any]:
    return {"goal": name, "limit": limit, "actual": actual, "reached": reached}
