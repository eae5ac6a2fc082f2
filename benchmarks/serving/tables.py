"""The tables of the serving benchmark on the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

CLOSED = 8  # connections of the closed loop


def show(report: dict[str, Any]) -> None:
    """Print latencies, throughput, parts of a request and goals."""
    console = Console(width=130)
    for table in (_latencies(report), _throughput(report), _parts(report), _goals(report)):
        console.print(table)


def _latencies(report: dict[str, Any]) -> Table:
    columns = ("store", "workers", "state", "candidates", "rate /s", "p50", "p95", "p99", "longest", "late p99")
    title = "The service: ms from the scheduled departure"
    table = Table(*columns, "errors", "CPU ms", "stolen", title=title)
    for p in report["points"]:
        ms = (f"{p[name]:.1f}" for name in ("p50", "p95", "p99", "longest", "late_p99"))
        labels = (p["store"], str(p["workers"]), p["state"], str(p["candidates"]), f"{p['rate']:.0f}")
        table.add_row(*labels, *ms, str(p["errors"]), f"{p['processor_ms']:.1f}", f"{p['stolen']:.1%}")
    return table


def _throughput(report: dict[str, Any]) -> Table:
    title = f"200 candidates, closed loop of {CLOSED} connections"
    table = Table("server", "workers", "answers/s", "p50", "p99", "errors", "CPU ms", title=title)
    for p in report["throughput"]:
        figures = (f"{p['answers_per_second']:.0f}", f"{p['p50']:.1f}", f"{p['p99']:.1f}")
        table.add_row(p["server"], str(p["workers"]), *figures, str(p["errors"]), f"{p['processor_ms']:.1f}")
    return table


def _parts(report: dict[str, Any]) -> Table:
    names = next(iter(report["inside"].values()))
    table = Table("candidates", *names, title="one request in one process: median (p99), ms")
    for candidates, parts in report["inside"].items():
        table.add_row(candidates, *(f"{ms['median']:.2f} ({ms['p99']:.2f})" for ms in parts.values()))
    return table


def _goals(report: dict[str, Any]) -> Table:
    table = Table("goal", "limit", "actual", "reached")
    for goal in report["goals"]:
        table.add_row(goal["goal"], f"{goal['limit']:g}", f"{goal['actual']:g}", "yes" if goal["reached"] else "no")
    return table
