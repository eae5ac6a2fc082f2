"""The table of results: AUC by scenario and task of every model, and the best possible.

`python -m models.evaluation.results_table` prints it from `reports/metrics.json`, with the paths of the reports and the
next commands.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from common import stage
from common.dvc_lock import outdated_outputs
from common.errors import PipelineError
from common.paths import DATA_DOCS, INDEX, METRICS, PLOTS_PAGE

LIMIT, WEIGHTED_MEAN = "limit", "weighted_mean"
MEAN_ECE, UNCALIBRATED_MEAN_ECE = "mean_ece", "uncalibrated_mean_ece"  # of calibrated models
NAMES = {"auc": "AUC", "accuracy": "accuracy", "hr1": "HR@1", "xauc": "XAUC"}
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
    metrics: Path = METRICS,
    page: Path = PLOTS_PAGE,
    validation: Path = DATA_DOCS,
    index: Path = INDEX,
) -> None:
    """Print the AUC of every model in `metrics`, the paths of the reports, and the next two commands.

    Raises PipelineError where there is no file `metrics`, or no whole one.
    """
    if not metrics.is_file():
        raise PipelineError(f"{metrics} does not exist: `dvc repro` writes it")
    try:
        report = json.loads(metrics.read_bytes())
    except ValueError as error:
        raise PipelineError(f"{metrics} is not whole ({error}): `dvc repro` writes it anew") from error
    if outdated := outdated_outputs(Path()).get(str(metrics)):
        print(f"{metrics} is of an earlier run: {outdated.reason}; `dvc repro` makes it anew\n")
    show_metrics(report)
    names = {"index": index, "metrics": metrics, "page": page, "validation": validation}
    width = max(len(str(path)) for path in names.values())
    print(NEXT.format(**{name: str(path).ljust(width) for name, path in names.items()}))


def show_metrics(report: dict[str, Any]) -> None:
    """Print the table of the metrics that `evaluate` measured, as wide as it needs, also where there is no terminal."""
    table, console = auc_table(report), Console()
    console.width = max(console.width, Measurement.get(console, console.options.update(width=1000), table).maximum)
    console.print(table)
    for name, measured in report.items():
        if UNCALIBRATED_MEAN_ECE in measured:
            before, after = (_number(measured[mean]) for mean in (UNCALIBRATED_MEAN_ECE, MEAN_ECE))
            console.print(f"{name}: expected calibration error {after} in the mean of the cells, {before} uncalibrated")


def auc_table(report: dict[str, Any]) -> Table:
    """AUC by scenario and task: a row per cell, a column per model, the mean of the cells last, the best in bold.

    Cells of classes, of a choice or of a number have their own metric; the task's column names it. Where rows have a
    weight, the mean of the weighted metrics stands above that of the others.
    """
    metrics = {metric_of(cell) for measured in report.values() for cell in measured["cells"]}
    title = f"{' or '.join(sorted(NAMES[metric] for metric in metrics))} on the test rows, with half its interval"
    table = Table(title=title, box=rich.box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("scenario", "mean")
    table.add_column("task")
    table.add_column("rows", justify="right")
    for name, measured in report.items():
        table.add_column(TITLES.get(name, name), _number(measured[mean_of(measured)]), justify="right", no_wrap=True)
    for cells in zip(*(measured["cells"] for measured in report.values()), strict=True):
        values = _values(dict(zip(report, cells, strict=True)))
        task = cells[0]["task"] + (f", {NAMES[metric_of(cells[0])]}" if len(metrics) > 1 else "")
        table.add_row(cells[0]["scenario"], task, f"{cells[0]['rows']:,}", *values)
    if any(WEIGHTED_MEAN in measured for measured in report.values()):
        table.add_section()
        table.add_row("weighted mean", "", "", *(_number(measured.get(WEIGHTED_MEAN)) for measured in report.values()))
    return table


def metric_of(cell: dict[str, Any]) -> str:
    """The name of the metric of a cell: auc, unless the cell names another one."""
    return str(cell.get("metric", "auc"))


def mean_of(measured: dict[str, Any]) -> str:
    """The name of the mean over a model's cells: mean_auc where all of them have an AUC, else mean."""
    return "mean_auc" if "mean_auc" in measured else "mean"


def _values(cells: dict[str, dict[str, Any]]) -> Iterator[str]:
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
    stage.run(show, summary=False)  # whose time and memory would be below the table
