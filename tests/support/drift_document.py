"""A drift.json as the stage `drift` writes it: 40 columns, six scenarios, every kind of finding, and nulls."""

from itertools import pairwise
from typing import Any

import numpy as np

from tests.support.drift_findings import FINDINGS, ODD
from tests.support.drift_scores import HISTORY, label, performance, scores

SCENARIOS = {"home_feed": 0.40, "search": 0.25, "channel": 0.15, "flash_sale": 0.10, "nearby": 0.06, "late_night": 0.04}
CURRENT_SHARES = (0.31, 0.36, 0.15, 0.09, 0.0596, 0.0004)  # late_night all but vanished
REFERENCE_ROWS, CURRENT_ROWS, FEW = 400_000, 50_000, 100
LIMITS = {"significance": 0.001, "fewest_rows": FEW, "scored_rows": 200_000} | {
    f"{name}_{level}": limit
    for name, *limits in (
        ("psi", 0.1, 0.25),
        ("missing", 0.05, 0.2),
        ("unknown", 0.05, 0.15),
        ("out_of_range", 0.1, 0.25),
        ("fresh", 0.5, 0.8),
        ("mix", 0.1, 0.2),
        ("volume", 0.3, 0.5),
        ("label_rate", 0.15, 0.3),
        ("score", 0.1, 0.25),
        ("calibration", 1.25, 1.5),
        ("ranking", 0.03, 0.06),
    )
    for level, limit in zip(("watch", "act"), limits, strict=True)
}
NAMES = (
    "price",
    "user_click_rate_7d",
    "item_orders_7d",
    "city_tier",
    "age_band",
    "brand",
    "rating",
    "tags",
    "hour",
    "device",
    "weekday",
    "user_id",
    "item_id",
    "cuisine",
    "preferred_cuisine",
    "price_level",
    "orders_last_year",
    "user_recent_items",
    "item_click_rate_7d",
    "user_orders_7d",
)
KINDS = ("numeric", "numeric", "numeric", "categorical", "categorical", "categorical", "numeric", "multi_valued")
MOVED = {
    ("price", "search"): 1.1,
    ("price", "flash_sale"): 0.5,
    ("city_tier", "nearby"): 0.75,
    ("tags", "channel"): 0.6,
    ("age_band", "nearby"): 0.7,
    ("user_click_rate_7d", "home_feed"): 0.4,
    ("hour", "search"): 0.35,
}

Plain = dict[str, Any]


def document(columns: int = 40) -> Plain:
    """The whole document; the same at each call."""
    generator = np.random.default_rng(7)
    names = [*NAMES, *(f"user_statistic_{index}" for index in range(columns - len(NAMES) - 1))][: columns - 1]
    return {
        "verdict": "act",
        "reason": "price in search is about 100 times what it was, and 4 more findings have the level act.",
        "next_step": "Look at the log reader's price, then run `dvc repro` on the mended log.",
        "dataset": "simulation",
        "reference": {
            "first_day": "2026-01-05",
            "last_day": "2026-01-14",
            "days": 10,
            "rows": REFERENCE_ROWS,
            "sha256": "3f" * 32,
            "model": "hinet",
            "tag": "a41c9e",
        },
        "current": {
            "first_day": "2026-01-17",
            "last_day": "2026-01-18",
            "days": 2,
            "rows": CURRENT_ROWS,
            "sha256": "b0" * 32,
            "source": "log",
            "labelled_rows": 48_112,
        },
        "limits": LIMITS,
        "mix": _mix(),
        "volume": _volume(),
        "findings": [_finding(*finding) for finding in FINDINGS],
        "columns": [_column(generator, name, index) for index, name in enumerate([*names, ODD])],
        "labels": [label(scenario, task) for scenario in SCENARIOS for task in ("click", "order")],
        "scores": [scores(generator, scenario, task) for scenario in SCENARIOS for task in ("click", "order")],
        "performance": [performance(scenario, task) for scenario in SCENARIOS for task in ("click", "order")],
        "quality": {
            "rows": CURRENT_ROWS,
            "quarantined": {"events": 412, "users": 0, "items": 3},
            "failed": [
                _fault("events", "price out of bounds", "critical", 412),
                _fault("items", "names are <unique>", "warning", None),
            ],
            "report": "../validation/index.html",
        },
    }


def quiet(columns: int = 12) -> Plain:
    """A document of a day on which nothing moved."""
    calm = document(columns)
    for column in calm["columns"]:
        for cell in column["scenarios"].values():
            cell.update(verdict="ok", psi=0.004, current=cell["reference"])
    for row in (*calm["labels"], *calm["scores"], *calm["performance"]):
        row.update(verdict="ok")
    calm.update(verdict="ok", findings=[], reason="Nothing moved beyond its noise band.", next_step="Nothing to do.")
    calm["mix"].update(verdict="ok", psi=0.002, corrected_p_values={"mix": 1.0})
    calm["quality"] = {"rows": CURRENT_ROWS, "quarantined": {"events": 0}, "failed": [], "report": None}
    return calm


def nulls(columns: int = 3) -> Plain:
    """A document whose every number that may be absent is absent."""
    empty = document(columns)
    for column in empty["columns"]:
        column.update(importance=None, whole={"psi": None, "js": None, "wasserstein": None})
        for cell in column["scenarios"].values():
            cell.update(psi=None, noise=None, p_value=None, js=None, wasserstein=None, linf=None, linf_bin=None)
            cell.update(missing=[None, None], fresh=None, effective_values=None, reference=[], current=[], verdict=None)
            cell.update(histories={"psi": []}, corrected_p_values={"psi": None})
    for finding in empty["findings"]:
        finding.update(value=None, reference_value=None, limit=None, noise=None, p_value=None, importance=None)
        finding.update(corrected_p_value=None, history=[])
    for row in empty["labels"]:
        row.update(
            rate=None, reference_rate=None, low=None, high=None, p_value=None, corrected_p_values={}, verdict=None
        )
    for row in (*empty["scores"], *empty["performance"]):
        row.update({key: None for key in row if key not in ("scenario", "task", "bins", "reference", "current")})
        row.update(reliability=[], corrected_p_values={})
    for row in empty["volume"]["scenarios"]:
        row.update(rows=None, expected=None, change=None, noise=None, p_value=None, verdict=None)
    empty["mix"].update(verdict=None, psi=None, noise=None, corrected_p_values={"mix": None})
    empty["quality"].update(rows=None, report=None)
    return empty


def _fault(table: str, rule: str, severity: str, broken: int | None) -> Plain:
    return {"table": table, "rule": rule, "severity": severity, "broken": broken}


def _mix() -> Plain:
    rows = zip(SCENARIOS.items(), CURRENT_SHARES, strict=True)
    scenarios = [
        {
            "scenario": name,
            "reference_share": share,
            "current_share": now,
            "reference_rows": round(share * REFERENCE_ROWS),
            "current_rows": round(now * CURRENT_ROWS),
        }
        for (name, share), now in rows
    ]
    return {
        "psi": 0.1134,
        "noise": 0.0007,
        "p_value": 1e-12,
        "corrected_p_values": {"mix": 1e-9},
        "enough_rows": True,
        "linf": -0.09,
        "linf_bin": "home_feed",
        "histories": {"mix": HISTORY},
        "verdict": "watch",
        "scenarios": scenarios,
    }


def _volume() -> Plain:
    rows = [
        {
            "scenario": name,
            "rows": round(now * CURRENT_ROWS),
            "expected": share * CURRENT_ROWS,
            "change": now / share - 1,
            "enough_rows": True,
            "noise": 0.12,
            "p_value": 0.2,
            "corrected_p_values": {"volume": 1.0},
            "histories": {"volume": HISTORY},
            "verdict": "ok",
        }
        for (name, share), now in zip(SCENARIOS.items(), CURRENT_SHARES, strict=True)
    ]
    return {"untested": None, "same_weekdays": True, "scenarios": rows}


def _finding(kind: str, verdict: str, column: str | None, scenario: str, task: str | None, *rest: Any) -> Plain:
    statistic, value, reference, sentence = rest
    limit = None if statistic is None else LIMITS[f"{statistic}_{verdict}"]
    noise = None if limit is None else limit * 0.2
    importance = 0.012 if column == "price" else None if task or column is None else 0.0007
    chance = {"watch": 0.0042, "act": 3e-9}[verdict] if value is not None else None
    history = [] if statistic is None or statistic in ("score", "calibration", "ranking") else HISTORY
    return {
        "kind": kind,
        "verdict": verdict,
        "column": column,
        "scenario": scenario,
        "task": task,
        "statistic": statistic,
        "value": value,
        "reference_value": reference,
        "limit": limit,
        "noise": noise,
        "p_value": chance,
        "corrected_p_value": chance,
        "importance": importance,
        "history": history,
        "sentence": sentence,
    }


def _column(generator: np.random.Generator, name: str, rank: int) -> Plain:
    kind = KINDS[rank % len(KINDS)]
    bins = _bins(kind, 10 + rank % 5)
    shares = generator.dirichlet(np.linspace(4, 9, len(bins)))
    cells = {}
    for index, scenario in enumerate(SCENARIOS):
        own = shares * generator.uniform(0.7, 1.4, len(bins))
        cells[scenario] = _cell(generator, bins, own / own.sum(), index, MOVED.get((name, scenario), 0.0))
    psi = max(cell["psi"] for cell in cells.values() if cell["enough_rows"]) / 2
    return {
        "column": name,
        "kind": kind,
        "source": ("impression", "profile", "statistics")[rank % 3],
        "importance": None if rank % 9 == 8 else 0.012 / (1 + rank),
        "bins": bins,
        "scenarios": cells,
        "whole": {"psi": psi, "js": psi / 8, "wasserstein": psi / 2 if kind == "numeric" else None},
    }


def _bins(kind: str, count: int) -> list[str]:
    edges = [round(0.4 * 1.5**index, 1) for index in range(count)]
    numeric = [f"< {edges[0]}", *(f"{low} .. {high}" for low, high in pairwise(edges))]
    named = [f"value <{index}>" for index in range(count - 1)] + ["all others"]
    return ["missing", "unknown", *(numeric if kind == "numeric" else named)]


def _cell(generator: np.random.Generator, bins: list[str], reference: np.ndarray, index: int, moved: float) -> Plain:
    rows, before = round(CURRENT_SHARES[index] * CURRENT_ROWS), round(list(SCENARIOS.values())[index] * REFERENCE_ROWS)
    tilted = reference * np.exp(moved * np.linspace(1.2, -1.2, len(bins)))
    current = generator.multinomial(rows, tilted / tilted.sum()) / rows
    psi = float(((current - reference) * np.log((current + 1e-4) / (reference + 1e-4))).sum())
    noise, enough = 1.6 * (len(bins) - 1) * (1 / rows + 1 / before), rows >= FEW
    verdict = "ok" if not enough or psi < 0.1 else "watch" if psi < 0.25 else "act"
    worst = int(np.abs(current - reference).argmax())
    return {
        "rows": rows,
        "reference_rows": before,
        "enough_rows": enough,
        "grows": False,
        "untested": None,
        "verdict": verdict,
        "psi": psi,
        "noise": noise,
        "p_value": 1e-9 if psi > 0.1 else 0.31,
        "js": psi / 8,
        "wasserstein": psi / 2,
        "linf": float(abs(current - reference)[worst]),
        "linf_bin": bins[worst],
        "missing": [float(reference[0]), float(current[0])],
        "unknown": [float(reference[1]), float(current[1])],
        "out_of_range": [0.0, 0.0004],
        "fresh": [0.252, 0.243],
        "effective_values": [8.1, 7.4] if len(bins) > 12 else None,
        "commonest": [0.31, 0.28] if len(bins) > 12 else None,
        "reference": reference.tolist(),
        "current": current.tolist(),
        "corrected_p_values": {"psi": 1e-6 if psi > 0.1 else 1.0},
        "histories": {"psi": (noise * generator.uniform(0.5, 2, 9)).tolist()},
    }
