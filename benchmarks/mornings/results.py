"""The results by day as JSON, which is continued, with their summary, and the table on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_rel

from benchmarks.accuracy.report import as_text
from benchmarks.mornings.plan import FROM_NOTHING, Start
from common.errors import ParameterError
from common.files import write_text

CONFIDENCE = 0.95
SECONDS = {"cpu_seconds": "share_of_time", "stage_cpu_seconds": "share_of_stage"}  # of the epochs, of the stage
Result = dict[str, Any]


class Results:
    """The results of one log and network in a file, which is written after every run and continued."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Continue the file `path`, or begin it; raises ParameterError where it is of another log or network."""
        self.path = path
        self.plain: dict[str, Any] = {**json.loads(json.dumps(head)), "runs": []}
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            if other := [key for key in head if before.get(key) != self.plain[key]]:
                raise ParameterError(
                    f"{path} has results with another {', '.join(other)}: expected those of this command, so that it "
                    "can be continued; give another --json"
                )
            self.plain = before

    def get(self, start: str, seed: int, day: str) -> Result | None:
        """The result of a start with a seed on a day, if there is one."""
        runs = (run for run in self.plain["runs"] if (run["start"], run["seed"], run["day"]) == (start, seed, day))
        return next(runs, None)

    def has(self, name: str, start: Start, seed: int, day: str) -> bool:
        """Whether the result is in the file; raises ParameterError where it is one of other parameters."""
        result = self.get(name, seed, day)
        if result is not None and result["trains"] != start.model_dump():
            raise ParameterError(
                f"{self.path} has {name!r} with {result['trains']}, expected {start.model_dump()}: give another --json"
            )
        return result is not None

    def add(self, name: str, start: Start, seed: int, day: str, result: Result) -> None:
        """Add a result, and write the file."""
        key = {"start": name, "seed": seed, "day": day, "trains": start.model_dump()}
        self.plain["runs"].append({**key, **result})
        write_text(self.path, as_text(self.plain))

    def summarize(self, starts: Sequence[str], seeds: int, days: Sequence[str]) -> dict[str, Any]:
        """Write and return the summary of these starts over seeds 1 to `seeds` and all days but the first.

        The model of the first day is the same for all starts.
        """
        self.plain["summary"] = {name: self._summary(name, seeds, days[1:]) for name in starts}
        write_text(self.path, as_text(self.plain))
        return self.plain

    def _summary(self, name: str, seeds: int, days: Sequence[str]) -> Result:
        values, reference = (self._values(start, seeds, days) for start in (name, FROM_NOTHING))
        summary: Result = {
            "days": len(days),
            "auc": round(float(values["auc"].mean()), 6),
            **{key: round(float(values[key].mean()), 2) for key in SECONDS},
            **{name: round(float(values[key].sum() / reference[key].sum()), 4) for key, name in SECONDS.items()},
            "epochs": round(float(values["epochs"].mean()), 2),
        }
        return summary if name == FROM_NOTHING else summary | _difference(values["auc"], reference["auc"])

    def _values(self, name: str, seeds: int, days: Sequence[str]) -> dict[str, Any]:
        """By key, the values of each day [days], the mean over the seeds; 0 seconds and epochs without a training."""
        table = [[self.get(name, seed, day) or {} for seed in range(1, seeds + 1)] for day in days]
        return {
            key: np.array([[result.get(key, 0) for result in row] for row in table], dtype=np.float64).mean(axis=1)
            for key in ("auc", "epochs", *SECONDS)
        }


def _difference(auc: Any, reference: Any) -> Result:
    """The mean paired difference over the days with its t interval; no interval of fewer than two days."""
    mean = round(float((auc - reference).mean()), 6)
    if len(auc) < 2:
        return {"difference": mean, "interval": None}
    interval = ttest_rel(auc, reference).confidence_interval(CONFIDENCE)
    return {"difference": mean, "interval": [round(float(end), 6) for end in interval]}


def show(plain: Mapping[str, Any]) -> None:
    """Print AUC by day, then the summary."""
    title = f"{plain['log']}, {plain['network']}"
    console = Console(width=100 + 16 * len(plain["summary"]))
    console.print(_daily(plain, f"{title}: AUC by day, mean of the cells and seeds"))
    console.print(_summary(plain["summary"], f"{title}: all days but the first"))


def _daily(plain: Mapping[str, Any], title: str) -> Table:
    table = Table("day", *plain["summary"], title=title)
    for day in sorted({run["day"] for run in plain["runs"]}):
        table.add_row(day, *(_cell(plain["runs"], name, day) for name in plain["summary"]))
    return table


def _cell(runs: Sequence[Result], name: str, day: str) -> str:
    """AUC and CPU seconds of a start on a day; empty on the first day, whose model is that of `from nothing`."""
    results = [run for run in runs if (run["start"], run["day"]) == (name, day)]
    if not results:
        return ""
    auc, seconds = (np.mean([run.get(key, 0) for run in results]) for key in ("auc", "cpu_seconds"))
    return f"{auc:.4f} ({seconds:.0f} s)" if seconds else f"{auc:.4f}"


def _summary(summary: Mapping[str, Result], title: str) -> Table:
    heads = "start", "AUC", "difference, 95 % interval", "epochs"
    table = Table(*heads, "CPU s of the epochs", "share of time", "CPU s of the stage", "share of time", title=title)
    for start, row in summary.items():
        interval = " ({:+.4f} to {:+.4f})".format(*row["interval"]) if row.get("interval") else ""
        difference = f"{row['difference']:+.4f}{interval}" if "difference" in row else ""
        cost = [text for key, name in SECONDS.items() for text in (f"{row[key]:.1f}", f"{row[name]:.2f}")]
        table.add_row(start, f"{row['auc']:.4f}", difference, f"{row['epochs']:.1f}", *cost)
    return table
