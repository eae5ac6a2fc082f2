"""The page that leads to every report of the last run, reports/index.html: its entries and its rendering.

It is made from the JSON files that the stages wrote under `reports`, also after a quality gate was closed. The results
of the flows (the online store in use, the monitored days) follow where there are some. One file, no network, no script.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader

from common.paths import FLOWS, ROOT

Tone = Literal["good", "warn", "bad", "none"]
QUALITY_GATES = {
    "Raw log": ("validation", "The raw log: rows in quarantine with their reasons, table by table"),
    "Training set": ("inspection/training", "No event lost or doubled, splits in order, features recent"),
    "Tensors": ("inspection/tensors", "Every row, ids within their embeddings, numbers and labels in range"),
    "Online store": ("inspection/online", "A sample of entities: online values against offline ones"),
}
DRIFT: dict[str, Tone] = {"ok": "good", "watch": "warn", "act": "bad"}
CLOSED, MISSING = "gate closed", "missing"
TEMPLATES = [
    ROOT / "features" / "quality" / "datadocs",
    Path(__file__).parent / "templates",
]  # the style is that of Data Docs


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the page: a report, its verdict and details, and its path under `reports` (None: it is missing).

    `gate`: the report is that of a quality gate, which can stop the pipeline.
    """

    title: str
    about: str
    verdict: str
    tone: Tone
    details: tuple[str, ...] = ()
    link: str | None = None
    gate: bool = False


def render(reports: Path) -> str:
    """The page over the reports in the folder `reports`."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("index.j2").render(entries=[*entries(reports)], models=models(reports))


def entries(reports: Path) -> Iterator[Entry]:
    """The reports in the order of the pipeline: quality gates, drift, plots and metrics; then those of the flows."""
    for title, (name, about) in QUALITY_GATES.items():
        yield _quality_gate(reports, title, f"{name}.json", f"{name}/index.html", about)
    yield _drift(reports, "Drift", "drift", "The newest window against the training data of the model")
    yield _file(reports, "Plots", "page/index.html", "Learning curves, reliability, use of the experts", "make plots")
    yield _file(reports, "Metrics", "metrics.json", "Every metric of every model, by scenario and task", "dvc repro")
    yield from _flows(reports, Path("..") / FLOWS)


def _flows(reports: Path, flows: Path) -> Iterator[Entry]:
    if (reports / flows / "online" / "check.json").is_file():
        about = "The store that services read, after its last refresh, against the offline store"
        report, link = f"{flows}/online/check.json", f"{flows}/online/docs/index.html"
        yield _quality_gate(reports, "Online store in use", report, link, about)
    if (reports / flows / "monitor" / "drift.json").is_file():
        yield _drift(reports, "Monitor", f"{flows}/monitor", "The days that were monitored last, with the champion")


def models(reports: Path) -> list[tuple[str, dict[str, float]]]:
    """The means of each model, the best possible one last; empty where there are no metrics."""
    metrics = _read(reports / "metrics.json") or {}
    return [(name.replace("limit", "best possible"), _means(report)) for name, report in metrics.items()]


def _means(report: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in report.items() if name.startswith("mean") and value is not None}


def _quality_gate(reports: Path, title: str, name: str, link: str, about: str) -> Entry:
    report = _read(reports / name)
    if report is None:
        return _missing(title, about, "dvc repro", gate=True)
    failed = [fault for table in report["tables"].values() for fault in table["failed"]]
    tone: Tone = "bad" if not report["passed"] else "warn" if failed else "good"
    verdict = {"bad": CLOSED, "warn": "open, with warnings", "good": "open"}[tone]
    details = (_rows(report["tables"]), *_faults(report["tables"]))
    linked = link if (reports / link).is_file() else None
    return Entry(title=title, about=about, verdict=verdict, tone=tone, details=details, link=linked, gate=True)


def _rows(tables: dict[str, dict[str, Any]]) -> str:
    counts = ", ".join(f"{name} {table['rows']:,}" for name, table in tables.items())
    quarantined = sum(table.get("quarantined", 0) for table in tables.values())
    return f"rows: {counts}" + (f"; {quarantined:,} in quarantine" if quarantined else "")


def _faults(tables: dict[str, dict[str, Any]]) -> Iterator[str]:
    for name, table in tables.items():
        yield from (f"{fault['severity']}: {name}, {fault['rule']}" for fault in table["failed"])


def _drift(reports: Path, title: str, folder: str, about: str) -> Entry:
    report = _read(reports / folder / "drift.json")
    if report is None:
        return _missing(title, about, "dvc repro")
    details = tuple(report[name] for name in ("reason", "next_step") if report.get(name))
    link = f"{folder}/index.html" if (reports / folder / "index.html").is_file() else None
    tone = DRIFT.get(report["verdict"], "none")
    return Entry(title=title, about=about, verdict=report["verdict"], tone=tone, details=details, link=link)


def _file(reports: Path, title: str, name: str, about: str, command: str) -> Entry:
    if not (reports / name).is_file():
        return _missing(title, about, command)
    return Entry(title=title, about=about, verdict="available", tone="none", link=name)


def _missing(title: str, about: str, command: str, *, gate: bool = False) -> Entry:
    return Entry(title=title, about=about, verdict=MISSING, tone="none", details=(f"made by: {command}",), gate=gate)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
