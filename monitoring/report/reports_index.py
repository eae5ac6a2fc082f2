"""The page that leads to every report of the last run, reports/index.html: its entries and its rendering.

It is made from the JSON files that the stages wrote under `reports`, also after a stage failed: what is not of the last
run by the record of DVC is marked so. The results of the flows (the online store in use, the monitored days) follow
where there are some, each with its run, time and data. One file, no network, no script.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeGuard, TypeVar

from jinja2 import Environment, FileSystemLoader
from pydantic import JsonValue, TypeAdapter, ValidationError

from common.dvc_lock import Outdated, outdated_outputs
from common.paths import FLOWS, ROOT
from common.run_identity import PREVIOUS, read_run

Tone = Literal["good", "warn", "bad", "none"]
QUALITY_GATES = {
    "Raw log": ("validation", "The raw log: rows in quarantine with their reasons, table by table"),
    "Training set": ("inspection/training", "No event lost or doubled, splits in order, features recent"),
    "Tensors": ("inspection/tensors", "Every row, ids within their embeddings, numbers and labels in range"),
    "Online store": ("inspection/online", "A sample of entities: online values against offline ones"),
}
DRIFT: dict[str, Tone] = {"ok": "good", "watch": "warn", "act": "bad"}
CLOSED, MISSING, OUTDATED = "gate closed", "missing", "of an earlier run"
TEMPLATES = [
    ROOT / "features" / "quality" / "datadocs",
    Path(__file__).parent / "templates",
]  # the style is that of Data Docs


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A rule of a quality gate that failed."""

    rule: str
    severity: str


@dataclass(frozen=True, kw_only=True)
class CheckedTable:
    """What a quality gate says of a table."""

    rows: int
    failed: list[Fault]
    quarantined: int = 0


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """The report of a quality gate, as far as the page shows it."""

    passed: bool
    tables: dict[str, CheckedTable]


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """The drift report, as far as the page shows it."""

    verdict: str
    reason: str = ""
    next_step: str = ""


Document = TypeVar("Document")
GATE_REPORT, DRIFT_VERDICT = TypeAdapter(GateReport), TypeAdapter(DriftVerdict)
METRICS: TypeAdapter[dict[str, dict[str, JsonValue]]] = TypeAdapter(dict[str, dict[str, JsonValue]])
ANY_REPORT: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the page: a report, its verdict and details, and its path under `reports` (None: it is missing).

    `gate`: the report is that of a quality gate, which can stop the pipeline. `small`: of which run it is.
    """

    title: str
    about: str
    verdict: str
    tone: Tone
    details: tuple[str, ...] = ()
    link: str | None = None
    gate: bool = False
    small: str | None = None


def render(reports: Path) -> str:
    """The page over the reports in the folder `reports`."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("index.j2").render(entries=[*entries(reports)], models=models(reports))


def entries(reports: Path) -> Iterator[Entry]:
    """The reports in the order of the pipeline: quality gates, drift, plots and metrics; then those of the flows."""
    outdated = outdated_outputs(reports.absolute().parent)
    for title, (name, about) in QUALITY_GATES.items():
        entry = _quality_gate(reports, title, f"{name}.json", f"{name}/index.html", about)
        yield _dated(entry, outdated.get(f"{reports.name}/{name}.json"))
    entry = _drift(reports, "Drift", "drift", "The newest window against the training data of the model")
    yield _dated(entry, outdated.get(f"{reports.name}/drift"))
    entry = _file(reports, "Plots", "page/index.html", "Learning curves, reliability, use of the experts", "make plots")
    yield _dated(entry, _older(reports / "page" / "index.html", reports / "metrics.json"))
    entry = _file(reports, "Metrics", "metrics.json", "Every metric of every model, by scenario and task", "dvc repro")
    yield _dated(entry, outdated.get(f"{reports.name}/metrics.json"))
    yield from _flows(reports, Path("..") / FLOWS)


def _dated(entry: Entry, outdated: Outdated | None) -> Entry:
    """The entry, marked where its report is not of the last run; that of a gate that is closed now is of this run."""
    if outdated is None or entry.verdict == MISSING or (entry.verdict == CLOSED and not outdated.upstream):
        return entry
    details = (f"then: {entry.verdict}", outdated.reason, *entry.details)
    return replace(entry, verdict=OUTDATED, tone="warn", details=details)


def _older(path: Path, other: Path) -> Outdated | None:
    """Whether a page was written before the file that it shows."""
    both = path.is_file() and other.is_file()
    older = both and path.stat().st_mtime < other.stat().st_mtime
    return Outdated(reason=f"{other.name} was made anew afterwards: `make plots`") if older else None


def _flows(reports: Path, flows: Path) -> Iterator[Entry]:
    """What the flows left: of the last run, or, where that one left no report, of the last whole one."""
    about = "The store that services read, after its last refresh, against the offline store"
    for folder in _reported(reports, flows / "online", "check.json"):
        entry = _quality_gate(
            reports, "Online store in use", f"{folder}/check.json", f"{folder}/docs/index.html", about
        )
        yield _of_run(entry, _read(reports / folder / "check.json", ANY_REPORT), folder)
    for folder in _reported(reports, flows / "monitor", "drift.json"):
        entry = _drift(reports, "Monitor", str(folder), "The days that were monitored last, with the champion")
        yield _of_run(entry, _read(reports / folder / "drift.json", ANY_REPORT), folder)


def _reported(reports: Path, folder: Path, document: str) -> Iterator[Path]:
    """The folder of a flow, or that of its last whole report where it has no `document`; nothing without both."""
    kept = folder.with_name(f"{folder.name}{PREVIOUS}")
    yield from [one for one in (folder, kept) if (reports / one / document).is_file()][:1]


def _of_run(entry: Entry, report: dict[str, JsonValue] | None, folder: Path) -> Entry:
    """The entry with the run, the time and the data of its report."""
    run = read_run(report)
    small = "of a run that is not known" if run is None else f"run {run.id}, {run.time}, data {(run.data or '-')[:12]}"
    if folder.name.endswith(PREVIOUS):
        entry = _dated(entry, Outdated(reason="the last run of the flow left no report", upstream=True))
    return replace(entry, small=small)


def models(reports: Path) -> list[tuple[str, dict[str, float]]]:
    """The means of each model, the best possible one last; empty where there are no metrics."""
    metrics = _read(reports / "metrics.json", METRICS) or {}
    return [(name.replace("limit", "best possible"), _means(report)) for name, report in metrics.items()]


def _means(report: dict[str, JsonValue]) -> dict[str, float]:
    return {name: float(value) for name, value in report.items() if name.startswith("mean") and _is_number(value)}


def _is_number(value: JsonValue) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quality_gate(reports: Path, title: str, name: str, link: str, about: str) -> Entry:
    report = _read(reports / name, GATE_REPORT)
    if report is None:
        return _missing(title, about, "dvc repro", gate=True)
    failed = [fault for table in report.tables.values() for fault in table.failed]
    tone: Tone = "bad" if not report.passed else "warn" if failed else "good"
    verdict = {"bad": CLOSED, "warn": "open, with warnings", "good": "open"}[tone]
    details = (_rows(report.tables), *_faults(report.tables))
    linked = link if (reports / link).is_file() else None
    return Entry(title=title, about=about, verdict=verdict, tone=tone, details=details, link=linked, gate=True)


def _rows(tables: dict[str, CheckedTable]) -> str:
    counts = ", ".join(f"{name} {table.rows:,}" for name, table in tables.items())
    quarantined = sum(table.quarantined for table in tables.values())
    return f"rows: {counts}" + (f"; {quarantined:,} in quarantine" if quarantined else "")


def _faults(tables: dict[str, CheckedTable]) -> Iterator[str]:
    for name, table in tables.items():
        yield from (f"{fault.severity}: {name}, {fault.rule}" for fault in table.failed)


def _drift(reports: Path, title: str, folder: str, about: str) -> Entry:
    report = _read(reports / folder / "drift.json", DRIFT_VERDICT)
    if report is None:
        return _missing(title, about, "dvc repro")
    details = tuple(filter(None, (report.reason, report.next_step)))
    link = f"{folder}/index.html" if (reports / folder / "index.html").is_file() else None
    tone = DRIFT.get(report.verdict, "none")
    return Entry(title=title, about=about, verdict=report.verdict, tone=tone, details=details, link=link)


def _file(reports: Path, title: str, name: str, about: str, command: str) -> Entry:
    if not (reports / name).is_file():
        return _missing(title, about, command)
    return Entry(title=title, about=about, verdict="available", tone="none", link=name)


def _missing(title: str, about: str, command: str, *, gate: bool = False) -> Entry:
    return Entry(title=title, about=about, verdict=MISSING, tone="none", details=(f"made by: {command}",), gate=gate)


def _read(path: Path, shape: TypeAdapter[Document]) -> Document | None:
    """The document in `path`; None where there is none, no whole one, or one of another shape."""
    try:
        return shape.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValidationError):
        return None
