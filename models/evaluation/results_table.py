"""The table that a user sees: AUC by scenario and task of every model, beside the best possible.

`python -m models.evaluation.results_table` shows it from `reports/metrics.json`, with what to look at and what to do next.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import rich.box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from common.errors import PipelineError

LIMIT = "limit"
NAMES = {"auc": "AUC", "accuracy": "accuracy", "hr1": "HR@1"}
TITLES = {LIMIT: "best possible"}
NEXT = """
Reports
  {index}   every report of this run on one page
  {metrics}   all metrics; `dvc metrics diff` compares
  {page}   learning, reliability, attention, experts: `make plots`
  {validation}   what was wrong with the data

Next
  make serve      the model just trained, as a ranking service on port 3000
  make plots      the plots as one page that opens without a network
"""


def show(
    *,
    metrics: Path = Path("reports/metrics.json"),
    page: Path = Path("reports/page/index.html"),
    validation: Path = Path("reports/validation/index.html"),
    index: Path = Path("reports/index.html"),
) -> None:
    """Show the AUC of every model in `metrics`, where the reports lie, and the next two commands."""
    if not metrics.is_file():
        raise PipelineError(f"{metrics} does not exist: `dvc repro` writes it")
    show_metrics(json.loads(metrics.read_text()))
    names = {"index": index, "metrics": metrics, "page": page, "validation": validation}
    width = max(len(str(path)) for path in names.values())
    print(NEXT.format(**{name: str(path).ljust(width) for name, path in names.items()}))


def show_metrics(report: dict[str, Any]) -> None:
    """Print the table of what `evaluate` measured, as wide as it needs, also where there is no terminal."""
    table, console = auc_table(report), Console()
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), table).maximum)
    console.print(table)


def auc_table(report: dict[str, Any]) -> Table:
    """AUC by scenario and task: a row per cell, a column per model, the mean of the cells last, the best in bold.

    A cell of classes or of a choice has its own metric, which stands beside the task.
    """
    metrics = {metric_of(cell) for found in report.values() for cell in found["cells"]}
    title = f"{' or '.join(sorted(NAMES[metric] for metric in metrics))} on the test rows, with half its interval"
    table = Table(title=title, box=rich.box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("scenario", "mean")
    table.add_column("task")
    table.add_column("rows", justify="right")
    for name, found in report.items():
        table.add_column(TITLES.get(name, name), _number(found[mean_of(found)]), justify="right", no_wrap=True)
    for cells in zip(*(found["cells"] for found in report.values()), strict=True):
        areas = _areas(dict(zip(report, cells, strict=True)))
        task = cells[0]["task"] + (f", {NAMES[metric_of(cells[0])]}" if len(metrics) > 1 else "")
        table.add_row(cells[0]["scenario"], task, f"{cells[0]['rows']:,}", *areas)
    return table


def metric_of(cell: dict[str, Any]) -> str:
    """The figure of a cell that counts: auc, unless the cell says otherwise."""
    return str(cell.get("metric", "auc"))


def mean_of(found: dict[str, Any]) -> str:
    """What the mean over a model's cells is called: mean_auc where all of them have an AUC, else mean."""
    return "mean_auc" if "mean_auc" in found else "mean"


def _areas(cells: dict[str, dict[str, Any]]) -> Iterator[str]:
    """0.7123 ±0.0045 for each model, the best in bold; the best possible is a bare number."""
    metric = metric_of(next(iter(cells.values())))
    best = max((cell[metric] or 0 for name, cell in cells.items() if name != LIMIT), default=0)
    for name, cell in cells.items():
        low, high = cell[f"{metric}_low"], cell[f"{metric}_high"]
        half = "" if name == LIMIT or low is None else f" ±{(high - low) / 2:.4f}"
        number = _number(cell[metric]) + half
        yield f"[bold]{number}[/bold]" if name != LIMIT and cell[metric] == best else number


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    try:
        cyclopts.run(show)  # no stage: it changes nothing, and the table is the last thing to be seen
    except PipelineError as error:
        sys.exit(str(error))
