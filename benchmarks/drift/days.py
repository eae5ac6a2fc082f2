"""Benchmark: what the drift report says of each day of a real log, judged by the days before it.

    python -m benchmarks.drift.days --dataset kuairand-pure --path DIR --first 5 --json days.json

For each day from number `first` on, encoder and reference are fitted on all earlier days, as if it were today. No model
is trained, so scores and calibration are not judged.
"""

import json as jsonlib
import tempfile
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
from features.encoding.histogram_counts import count_histograms, day_span, fit_reference, select_rows
from features.schema import Schema, View, inputs_from, read_schema, read_views
from monitoring.detection.comparison import Comparison
from monitoring.detection.verdict import evaluate


def days(
    *,
    dataset: str = "kuairand-pure",
    path: Path | None = None,
    first: int = 5,
    json: Path = Path("artifacts/days.json"),
) -> None:
    """Judge every day of the log from number `first` on; print the table and write it to `json`."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(dataset, path, "time", folder)
        schema, views = read_schema(folder / SCHEMA), read_views(folder / "data" / "features" / "views.json")
        rows, settings = folder / TRAINING / "*.parquet", params.load(folder / "params.yaml")
        start, end = day_span(rows, schema)
        wanted = [start + timedelta(days=place) for place in range(first - 1, (end - start).days + 1)]
        found = [judged(rows, day, start, schema, views, settings) for day in wanted]
    json.parent.mkdir(parents=True, exist_ok=True)
    json.write_text(jsonlib.dumps({"dataset": dataset, "days": found}, indent=1) + "\n")
    show(found)


def judged(
    rows: Path, day: date, start: date, schema: Schema, views: tuple[View, ...], settings: Params
) -> dict[str, Any]:
    """The verdict on a day and its findings, by all the days before it."""
    with tempfile.TemporaryDirectory() as temporary:
        before = Path(temporary) / "before.parquet"
        duckdb.sql(f"copy ({select_rows(rows, schema, (start, day - timedelta(days=1)))}) to '{before.as_posix()}'")
        encoder = fit_encoder(schema, inputs_from(schema, views, settings.encode.sources), before, settings.encode.minimum_count)
        reference = fit_reference(before, schema, encoder)
        current = count_histograms(rows, schema, encoder, reference.bins, days=(day, day))
        comparison = Comparison(reference, current, fewest=settings.drift.fewest_rows)
        report = evaluate(
            {
                "mix": comparison.mix(schema),
                "columns": comparison.columns(schema, {}),
                "labels": list(comparison.labels(schema)),
                "scores": [],
                "performance": [],
            },
            settings.drift,
        )
    told = [f"{found['verdict']}: {found['sentence']}" for found in report["findings"]]
    return {
        "day": day.isoformat(),
        "weekday": f"{day:%a}",
        "rows": int(current.rows.sum()),
        "verdict": report["verdict"],
        "findings": told,
    }


def show(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("day", "rows", "verdict", "findings", "first")
    for one in found:
        first = one["findings"][0] if one["findings"] else ""
        table.add_row(
            f"{one['day']} {one['weekday']}", f"{one['rows']:,}", one["verdict"], str(len(one["findings"])), first
        )
    Console(width=140).print(table)


if __name__ == "__main__":
    stage.run(days)
