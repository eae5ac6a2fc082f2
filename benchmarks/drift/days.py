"""Benchmark: the drift report on each day of a real log, with the days before it as the reference.

    python -m benchmarks.drift.days --dataset kuairand-pure --path DIR --first 5 --json days.json

For each day from number `first` on, encoder and reference are fitted on all earlier days, as if it were today. No model
is trained, so that the report has neither scores nor calibration.
"""

import json as jsonlib
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.protocols import prepare
from common import params, stage
from common.params import Params
from common.paths import SCHEMA, TRAINING
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import count_histograms, fit_reference
from features.encoding.window_rows import day_span, select_rows
from features.schema import Schema, View, inputs_from, read_schema, read_views
from monitoring.detection.comparison import compare_windows
from monitoring.detection.verdict import evaluate


def days(
    *,
    dataset: str = "kuairand-pure",
    path: Path | None = None,
    first: int = 5,
    json: Path = Path("artifacts/days.json"),
) -> None:
    """Report the drift of every day of the log from number `first` on; print the table and write it to `json`.

    Args:
        dataset: Name of the data set.
        path: Folder that holds the official archive; the simulation needs none.
        first: Number of the first day, counted from 1.
        json: File of the results.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(dataset, path, "time", folder)
        schema, views = read_schema(folder / SCHEMA), read_views(folder / "data" / "features" / "views.json")
        rows, settings = folder / TRAINING / "*.parquet", params.load(folder / "params.yaml")
        start, end = day_span(rows, schema)
        reporter = DayReporter(rows, start, schema, views, settings)
        results = [
            reporter.report(start + timedelta(days=number)) for number in range(first - 1, (end - start).days + 1)
        ]
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(jsonlib.dumps({"dataset": dataset, "days": results}, indent=1) + "\n", encoding="utf-8")
    show(results)


@dataclass(frozen=True)
class DayReporter:
    """The rows of a log from the day `start` on, and the parameters of the drift report."""

    rows: Path
    start: date
    schema: Schema
    views: tuple[View, ...]
    settings: Params

    def report(self, day: date) -> dict[str, Any]:
        """The verdict on a day and its findings, with all the days before it as the reference."""
        with tempfile.TemporaryDirectory() as temporary:
            before = Path(temporary) / "before.parquet"
            selected = select_rows(self.rows, self.schema, (self.start, day - timedelta(days=1)))
            duckdb.sql(f"copy ({selected}) to '{before.as_posix()}'")
            encode = self.settings.encode
            columns = inputs_from(self.schema, self.views, encode.sources)
            encoder = fit_encoder(self.schema, columns, before, encode.minimum_count, **encode.tables)
            reference = fit_reference(before, self.schema, encoder)
            current = count_histograms(self.rows, self.schema, encoder, reference.bins, days=(day, day))
        compared = compare_windows(reference, current, self.schema, self.settings.drift, views=self.views)
        sections = {**compared, "scores": [], "performance": []}
        report = evaluate(sections, self.settings.drift)
        return {
            "day": day.isoformat(),
            "weekday": f"{day:%a}",
            "rows": int(current.rows.sum()),
            "verdict": report["verdict"],
            "findings": [f"{finding['verdict']}: {finding['sentence']}" for finding in report["findings"]],
        }


def show(results: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("day", "rows", "verdict", "findings", "first")
    for one in results:
        first = one["findings"][0] if one["findings"] else ""
        table.add_row(
            f"{one['day']} {one['weekday']}", f"{one['rows']:,}", one["verdict"], str(len(one["findings"])), first
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    stage.run(days)
