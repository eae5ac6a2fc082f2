"""`python -m monitoring.index`: reports/index.html, one page that leads to every report of the last run.

It is made from what lies under `reports` (JSON that the stages wrote), also after a gate was closed; a report that
is not there is said to be missing. What the flows found of the store and the data in use stands below, where there
is such a flow. One file, no network, no script.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cyclopts
from jinja2 import Environment, FileSystemLoader

from common.paths import ROOT

Tone = Literal["good", "warn", "bad", "none"]
BORDERS = {
    "Raw log": ("validation", "What came in: rows in quarantine and why, table by table"),
    "Training set": ("inspection/training", "No event lost or doubled, splits in order, features fresh"),
    "Tensors": ("inspection/tensors", "Every row, ids in their tables, numbers and labels in range"),
    "Online store": ("inspection/online", "A sample of entities: online values against offline ones"),
}
FLOWS = Path("artifacts/flows")  # beside `reports`
DRIFT: dict[str, Tone] = {"ok": "good", "watch": "warn", "act": "bad"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the page: a report, what it says, and where it lies under `reports` (None: it is not there).

    `gate` says whether the report can stop the pipeline.
    """

    title: str
    about: str
    verdict: str
    tone: Tone
    found: tuple[str, ...] = ()
    link: str | None = None
    gate: bool = False


def index(*, reports: Path = Path("reports")) -> None:
    """Write index.html under `reports`."""
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, ROOT / "features" / "datadocs"]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("index.j2").render(entries=[*entries(reports)], models=models(reports))
    (reports / "index.html").write_text(page, encoding="utf-8")


def entries(reports: Path) -> Iterator[Entry]:
    """The reports in the order of the pipeline: the borders, drift, metrics and plots; then those of the flows."""
    for title, (name, about) in BORDERS.items():
        yield _border(reports, title, f"{name}.json", f"{name}/index.html", about)
    yield _drift(reports, "Drift", "drift", "The newest window against what the model was trained on")
    yield _file(reports, "Plots", "page/index.html", "Learning curves, reliability, use of the experts", "make plots")
    yield _file(reports, "Metrics", "metrics.json", "Every figure of every model, by scenario and task", "dvc repro")
    yield from _flows(reports, Path("..") / FLOWS)


def _flows(reports: Path, flows: Path) -> Iterator[Entry]:
    if (reports / flows / "online" / "check.json").is_file():
        about = "The store that services read, after its last refresh, against the offline one"
        report, link = f"{flows}/online/check.json", f"{flows}/online/docs/index.html"
        yield _border(reports, "Online store in use", report, link, about)
    if (reports / flows / "monitor" / "drift.json").is_file():
        yield _drift(reports, "Monitor", f"{flows}/monitor", "The days that were monitored last, by the champion")


def models(reports: Path) -> list[tuple[str, dict[str, float]]]:
    """The means of each model, the best possible one last; empty where there are no metrics."""
    found = _read(reports / "metrics.json") or {}
    return [(name.replace("limit", "best possible"), _means(report)) for name, report in found.items()]


def _means(report: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in report.items() if name.startswith("mean") and value is not None}


def _border(reports: Path, title: str, name: str, link: str, about: str) -> Entry:
    report = _read(reports / name)
    if report is None:
        return _absent(title, about, "dvc repro", gate=True)
    failed = [fault for table in report["tables"].values() for fault in table["failed"]]
    tone: Tone = "bad" if not report["passed"] else "warn" if failed else "good"
    verdict = {"bad": "gate closed", "warn": "open, with warnings", "good": "open"}[tone]
    found = (_rows(report["tables"]), *_faults(report["tables"]))
    linked = link if (reports / link).is_file() else None
    return Entry(title=title, about=about, verdict=verdict, tone=tone, found=found, link=linked, gate=True)


def _rows(tables: dict[str, dict[str, Any]]) -> str:
    counts = ", ".join(f"{name} {table['rows']:,}" for name, table in tables.items())
    aside = sum(table.get("quarantined", 0) for table in tables.values())
    return f"rows: {counts}" + (f"; {aside:,} in quarantine" if aside else "")


def _faults(tables: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, table in tables.items():
        yield from (f"{fault['severity']}: {name}, {fault['rule']}" for fault in table["failed"])


def _drift(reports: Path, title: str, folder: str, about: str) -> Entry:
    report = _read(reports / folder / "drift.json")
    if report is None:
        return _absent(title, about, "dvc repro")
    found = tuple(report[name] for name in ("reason", "next_step") if report.get(name))
    link = f"{folder}/index.html" if (reports / folder / "index.html").is_file() else None
    tone = DRIFT.get(report["verdict"], "none")
    return Entry(title=title, about=about, verdict=report["verdict"], tone=tone, found=found, link=link)


def _file(reports: Path, title: str, name: str, about: str, command: str) -> Entry:
    if not (reports / name).is_file():
        return _absent(title, about, command)
    return Entry(title=title, about=about, verdict="there", tone="none", link=name)


def _absent(title: str, about: str, command: str, *, gate: bool = False) -> Entry:
    return Entry(title=title, about=about, verdict="missing", tone="none", found=(f"made by: {command}",), gate=gate)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


if __name__ == "__main__":
    cyclopts.run(index)
