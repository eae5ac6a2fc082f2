"""The page of the drift report: drift.json as one HTML file that needs no network and no script.

Content and order of the page are in templates/. This module prepares what they need: ranked columns, cells with their
levels, findings with the anchors they link to. The same document gives the same bytes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_text
from monitoring.report import charts, wording

Plain = dict[str, Any]
TEMPLATES = Path(__file__).parent / "templates"

OPEN = 3  # columns whose section is open initially
FIRST = 12  # findings that are shown initially; the others unfold
BINS_NAMED = {"act": 4, "watch": 4, "above": 3, "quiet": 1, "few": 1}  # bins named under a histogram
WIDE = 8  # scenarios that fit on a screen side by side
WEIGHT = {"act": 2, "watch": 1, "ok": 0, None: 0}  # None: not tested


def write(report: Plain, path: Path) -> None:
    """Write the page of `report` (drift.json) to `path`; a missing key raises KeyError or jinja2.UndefinedError."""
    write_text(path, render(report))


def render(report: Plain) -> str:
    """The page as text."""
    columns, names = rank(report), scenarios(report)
    findings = [locate(finding, columns, names) for finding in report["findings"]]
    page = _environment().get_template("page.j2")
    shown = {"first": FIRST, "open": OPEN, "wide": WIDE}
    return page.render(report=report, columns=columns, scenarios=names, findings=findings, **shown)


def scenarios(report: Plain) -> list[str]:
    """Names of the scenarios, in the order of the mix; those of a column only come last."""
    names = [row["scenario"] for row in report["mix"]["scenarios"]]
    return list(dict.fromkeys([*names, *(name for column in report["columns"] for name in column["scenarios"])]))


def rank(report: Plain) -> list[Plain]:
    """The columns, the one with the worst finding first, then by importance; each with `rank`, `anchor`, ..."""
    by_column: dict[str, list[Plain]] = {}
    for index, finding in enumerate(report["findings"]):
        by_column.setdefault(finding["column"], []).append({**finding, "index": index})
    order = sorted(report["columns"], key=lambda column: _rank(column, by_column.get(column["column"], [])))
    names = scenarios(report)
    return [_column(column, index, by_column.get(column["column"], []), names) for index, column in enumerate(order, 1)]


def _rank(column: Plain, findings: list[Plain]) -> tuple[float, int, float, str]:
    first = findings[0]["index"] if findings else float("inf")
    worst = max((WEIGHT[cell["verdict"]] for cell in column["scenarios"].values()), default=0)
    importance = column["importance"]
    return first, -worst, float("inf") if importance is None else -importance, column["column"]


def _column(column: Plain, rank: int, findings: list[Plain], names: list[str]) -> Plain:
    anchor = f"column-{rank}"
    cells = [_cell(column, name, f"{anchor}-{index}", findings) for index, name in enumerate(names, 1)]
    enough = [cell for cell in cells if cell and cell["enough_rows"]]
    shares = [share for cell in enough for share in (*cell["reference"], *cell["current"])]
    compared = [cell for cell in enough if cell["psi"] is not None and not cell["untested"]]
    worst = max(compared, key=lambda cell: (WEIGHT[cell["verdict"]], cell["psi"]), default=None)
    verdicts = [*(finding["verdict"] for finding in findings), *(cell["verdict"] for cell in compared)]
    verdict = max(verdicts, key=WEIGHT.__getitem__, default=None)
    return {
        **column,
        "rank": rank,
        "anchor": anchor,
        "findings": findings,
        "cells": cells,
        "worst": worst,
        "untested": next((cell["untested"] for cell in enough if cell["untested"]), None),
        "verdict": verdict,
        "top": max(shares, default=0.0),
        "summary": _summary(findings, worst, anchor, names),
    }


def _summary(findings: list[Plain], worst: Plain | None, anchor: str, names: list[str]) -> Plain | None:
    """The one line of a column: its first finding; else the scenario in which its PSI is largest."""
    if findings:
        first = findings[0]
        known = first["scenario"] in names
        return {**first, "anchor": f"{anchor}-{names.index(first['scenario']) + 1}" if known else anchor}
    if worst is None:
        return None
    return {
        "scenario": worst["scenario"],
        "anchor": worst["anchor"],
        "statistic": "psi",
        "value": worst["psi"],
        "noise": worst["noise"],
        "limit": None,
        "corrected_p_value": worst["corrected_p_values"].get("psi"),
        "history": worst["histories"].get("psi", []),
    }


def _cell(column: Plain, scenario: str, anchor: str, findings: list[Plain]) -> Plain | None:
    """A column in a scenario, with the kinds of its findings; None where it was not compared."""
    cell = column["scenarios"].get(scenario)
    if cell is None:
        return None
    kinds = [wording.name_kind(f["kind"]) for f in findings if f["scenario"] == scenario and f["kind"] != "covariate"]
    verdicts = [cell["verdict"] or "ok", *(f["verdict"] for f in findings if f["scenario"] == scenario)]
    verdict = max(verdicts, key=WEIGHT.__getitem__)
    level = _level(cell, verdict)
    return {
        **cell,
        "scenario": scenario,
        "anchor": anchor,
        "kinds": kinds,
        "verdict": verdict,
        "level": level,
        "moves": _moves(column["bins"], cell, BINS_NAMED[level]),
    }


def _moves(bins: list[str], cell: Plain, most: int) -> list[tuple[str, float, float]]:
    """The bins that moved most: name, share in the reference, current share."""
    before, now = cell["reference"], cell["current"]
    if not len(bins) == len(before) == len(now):
        return []
    return [(bins[index], before[index], now[index]) for index in charts.moved(before, now)[:most]]


def _level(cell: Plain, verdict: str) -> str:
    """The level of a cell of the heat map: few (also: not tested), act, watch, above (its noise band) or quiet."""
    if not cell["enough_rows"]:
        return "few"
    if verdict != "ok":
        return verdict
    if cell["untested"]:
        return "few"
    known = cell["psi"] is not None and cell["noise"] is not None
    return "above" if known and cell["psi"] > cell["noise"] else "quiet"


def locate(finding: Plain, columns: Iterable[Plain], names: list[str]) -> Plain:
    """The finding with the anchor of its column, cell or section."""
    column = next((column for column in columns if column["column"] == finding["column"]), None)
    index = names.index(finding["scenario"]) if finding["scenario"] in names else None
    cell = column["cells"][index] if column and index is not None else None
    sections = {
        "mix": "mix",
        "volume": "mix",
        "label_rate": "labels",
        "label_shift": "labels",
        "score": "scores",
        "calibration": "scores",
        "ranking": "performance",
    }
    anchor = cell["anchor"] if cell else column["anchor"] if column else sections.get(finding["kind"], "findings")
    return {**finding, "anchor": anchor}


def bounds(rows: Iterable[Plain], keys: tuple[str, ...]) -> tuple[float, float]:
    """The common scale of `rows`: from the smallest to the largest of the numbers under `keys`, with a margin."""
    known = [row[key] for row in rows for key in keys if row[key] is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.03 * (high - low) or 0.01
    return low - margin, high + margin


def largest(rows: Iterable[Plain], *keys: str) -> float:
    """The largest known number under `keys`; 0 where there is none."""
    return max((row[key] for row in rows for key in keys if row[key] is not None), default=0.0)


def is_near(link: str) -> bool:
    """Whether a link is relative, without a scheme."""
    return ":" not in link and not link.startswith("/")


def _environment() -> Environment:
    """Everything but the charts is escaped; a key that the document lacks is an error."""
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        count=wording.count,
        figure=wording.figure,
        share=wording.share,
        fixed=wording.fixed,
        quote=wording.quote,
        chance=wording.chance,
        certainty=wording.certainty,
        kind=wording.name_kind,
        statistic=wording.name_statistic,
    )
    environment.globals.update(
        charts=charts,
        absent=wording.absent,
        change=wording.change,
        percent=wording.percent,
        measured=wording.measured,
        bounds=bounds,
        largest=largest,
    )
    environment.tests["near"] = is_near
    return environment
