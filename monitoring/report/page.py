"""The page that a person reads: drift.json as one HTML file that needs no network and no script.

What stands on it and in which order is in the templates of page/; here is what they ask for: the columns ranked,
their cells judged, the findings with the way to where they come from. The same document gives the same bytes.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monitoring.report import charts, wording

Plain = dict[str, Any]

OPEN = 3  # columns whose section is open from the start
FIRST = 12  # findings shown at once; the rest unfolds
NAMED = {"act": 4, "watch": 4, "above": 3, "quiet": 1, "few": 1}  # bins named under a histogram
WIDE = 8  # scenarios that fit beside each other on a screen
WEIGHT = {"act": 2, "watch": 1, "ok": 0, None: 0}  # None: not judged


def write(report: Plain, path: Path) -> None:
    """Write the page of `report` (drift.json) to `path`; a missing key raises KeyError or jinja2.UndefinedError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report), encoding="utf-8")


def render(report: Plain) -> str:
    """The page as text."""
    columns, names = rank(report), scenarios(report)
    findings = [locate(finding, columns, names) for finding in report["findings"]]
    page = _environment().get_template("page.j2")
    shown = {"first": FIRST, "open": OPEN, "wide": WIDE}
    return page.render(report=report, columns=columns, scenarios=names, findings=findings, **shown)


def scenarios(report: Plain) -> list[str]:
    """Names of the scenarios, in the order of the mix; those that only a column knows come last."""
    names = [row["scenario"] for row in report["mix"]["scenarios"]]
    return list(dict.fromkeys([*names, *(name for column in report["columns"] for name in column["scenarios"])]))


def rank(report: Plain) -> list[Plain]:
    """The columns, the one with the worst finding first, then by importance; each with `place`, `anchor`, ..."""
    found: dict[str, list[Plain]] = {}
    for place, finding in enumerate(report["findings"]):
        found.setdefault(finding["column"], []).append({**finding, "place": place})
    order = sorted(report["columns"], key=lambda column: _rank(column, found.get(column["column"], [])))
    names = scenarios(report)
    return [_column(column, place, found.get(column["column"], []), names) for place, column in enumerate(order, 1)]


def _rank(column: Plain, findings: list[Plain]) -> tuple[float, int, float, str]:
    first = findings[0]["place"] if findings else float("inf")
    worst = max((WEIGHT[cell["verdict"]] for cell in column["scenarios"].values()), default=0)
    importance = column["importance"]
    return first, -worst, float("inf") if importance is None else -importance, column["column"]


def _column(column: Plain, place: int, findings: list[Plain], names: list[str]) -> Plain:
    anchor = f"column-{place}"
    cells = [_cell(column, name, f"{anchor}-{index}", findings) for index, name in enumerate(names, 1)]
    enough = [cell for cell in cells if cell and cell["enough_rows"]]
    shares = [share for cell in enough for share in (*cell["reference"], *cell["current"])]
    compared = [cell for cell in enough if cell["psi"] is not None]
    worst = max(compared, key=lambda cell: (WEIGHT[cell["verdict"]], cell["psi"]), default=None)
    verdicts = [*(finding["verdict"] for finding in findings), *(cell["verdict"] for cell in compared)]
    verdict = max(verdicts, key=WEIGHT.__getitem__, default="ok")
    return {
        **column,
        "place": place,
        "anchor": anchor,
        "findings": findings,
        "cells": cells,
        "worst": worst,
        "verdict": verdict,
        "top": max(shares, default=0.0),
        "told": _told(findings, worst, anchor, names),
    }


def _told(findings: list[Plain], worst: Plain | None, anchor: str, names: list[str]) -> Plain | None:
    """What is told of a column in one line: its first finding; else the scenario in which its PSI is largest."""
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
    """A column in a scenario, with the kinds of what was found there; None where it was not compared."""
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
        "moves": _moves(column["bins"], cell, NAMED[level]),
    }


def _moves(bins: list[str], cell: Plain, most: int) -> list[tuple[str, float, float]]:
    """The bins that moved most: name, share in the reference, share now."""
    before, now = cell["reference"], cell["current"]
    if not len(bins) == len(before) == len(now):
        return []
    return [(bins[place], before[place], now[place]) for place in charts.moved(before, now)[:most]]


def _level(cell: Plain, verdict: str) -> str:
    """How a cell of the heat map is painted: few, act, watch, above (its noise band) or quiet."""
    if not cell["enough_rows"]:
        return "few"
    if verdict != "ok":
        return verdict
    known = cell["psi"] is not None and cell["noise"] is not None
    return "above" if known and cell["psi"] > cell["noise"] else "quiet"


def locate(finding: Plain, columns: Iterable[Plain], names: list[str]) -> Plain:
    """The finding with the anchor of what it is about."""
    column = next((column for column in columns if column["column"] == finding["column"]), None)
    place = names.index(finding["scenario"]) if finding["scenario"] in names else None
    cell = column["cells"][place] if column and place is not None else None
    sections = {
        "mix": "mix",
        "label_rate": "labels",
        "score": "scores",
        "calibration": "scores",
        "ranking": "performance",
    }
    anchor = cell["anchor"] if cell else column["anchor"] if column else sections.get(finding["kind"], "findings")
    return {**finding, "anchor": anchor}


def bounds(rows: Iterable[Plain], keys: tuple[str, ...]) -> tuple[float, float]:
    """The scale on which all of `rows` are drawn: from the least to the greatest of the numbers under `keys`."""
    known = [row[key] for row in rows for key in keys if row[key] is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.03 * (high - low) or 0.01
    return low - margin, high + margin


def largest(rows: Iterable[Plain], *keys: str) -> float:
    """The greatest known number under `keys`; 0 where there is none."""
    return max((row[key] for row in rows for key in keys if row[key] is not None), default=0.0)


def is_near(link: str) -> bool:
    """Whether a link stays beside the page: relative, without a scheme."""
    return ":" not in link and not link.startswith("/")


def _environment() -> Environment:
    """Everything is escaped unless figures.py drew it; a key that the document lacks is an error."""
    loader = FileSystemLoader(Path(__file__).parent / "page")
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
        figures=charts,
        absent=wording.absent,
        change=wording.change,
        percent=wording.percent,
        measured=wording.measured,
        bounds=bounds,
        largest=largest,
    )
    environment.tests["near"] = is_near
    return environment
