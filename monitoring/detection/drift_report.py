"""The document of the drift report, drift.json: a window compared with the reference of a model, with its verdict."""

import json
import math
from datetime import date
from pathlib import Path
from typing import Any

from common.errors import ParameterError
from common.files import sha256_of
from common.params import Drift
from features.encoding.histograms import Days, Histograms
from features.engine.protocol import Engine
from models.model_folder import PROFILE, REFERENCE, Model
from monitoring.detection.comparison import compare_windows
from monitoring.detection.score_shift import compare_auc, compare_scores
from monitoring.detection.verdict import evaluate
from monitoring.detection.window import Window, open_window

DIGITS = 6


def report_on(current: Path, model: Model, folder: Path, limits: Drift, *, days: Days | None = None) -> dict[str, Any]:
    """The report on the window `current`, as in drift.json; see `compare` for the arguments."""
    return evaluate(compare(current, model, folder, limits, days=days), limits)


def compare(
    current: Path,
    model: Model,
    folder: Path,
    limits: Drift,
    *,
    days: Days | None = None,
    engine: Engine | None = None,
) -> dict[str, Any]:
    """The comparison of the window `current` with the reference in the model folder, without a verdict.

    Args:
        current: Parquet file(s) of the window.
        model: the model in `folder`.
        folder: the model folder, with the reference and the reference profile.
        limits: the section `drift` of params.yaml.
        days: first and last day (UTC) of the window; None: all.
        engine: where the rows are read; None: DuckDB.
    """
    reference = Histograms.read(folder / REFERENCE)
    profile = json.loads((folder / PROFILE).read_text())
    window = open_window(current, model, reference, profile, most=limits.scored_rows, days=days, engine=engine)
    scores = profile["scores"]
    return {
        "dataset": model.schema.name,
        "reference": _days_and_rows(reference)
        | {"model": model.name, "tag": model.tag, "sha256": sha256_of(folder / REFERENCE)},
        "current": _days_and_rows(window.histograms) | _source(window),
        "limits": _limits(limits),
        **compare_windows(
            reference,
            window.histograms,
            model.schema,
            limits,
            views=model.views,
            importance=profile["importance"],
            days=days,
            served=window.served,
        ),
        "scores": list(compare_scores(scores, window.scores, model.schema)),
        "performance": list(compare_auc(window.probabilities, window.labels, window.scenario, model.schema, scores)),
    }


def days_of(first_day: date | None, last_day: date | None) -> Days | None:
    """The requested days; raises ParameterError where only one end is given or the ends are exchanged."""
    if first_day is None and last_day is None:
        return None
    if first_day is None or last_day is None or last_day < first_day:
        raise ParameterError(f"--first-day {first_day} --last-day {last_day}: expected both, in this order")
    return first_day, last_day


def _limits(limits: Drift) -> dict[str, float]:
    """Every limit by its name: psi_watch, psi_act, ..., significance."""
    named: dict[str, float] = {}
    for name, value in limits.model_dump().items():
        named |= {f"{name}_{level}": one for level, one in value.items()} if isinstance(value, dict) else {name: value}
    return named


def _days_and_rows(window: Histograms) -> dict[str, Any]:
    return {
        "first_day": window.first_day.isoformat(),
        "last_day": window.last_day.isoformat(),
        "days": len(window.rows),
        "rows": int(window.rows.sum()),
    }


def _source(window: Window) -> dict[str, Any]:
    labelled = int((window.labels == window.labels).any(axis=1).sum())
    return {
        "sha256": window.sha256,
        "source": "served" if window.served else "log",
        "scored_rows": len(window.scenario),
        "labelled_rows": labelled,
    }


def quality_of(validation: Path | None) -> dict[str, Any] | None:
    """The result of the quality gate of the log: rows, rows in quarantine, expectations that were not met."""
    if validation is None:
        return None
    tables = json.loads(validation.read_text())["tables"]
    return {
        "rows": tables["events"]["rows"],
        "quarantined": {name: table["quarantined"] for name, table in tables.items()},
        "failed": [
            {"table": name, **{key: fault[key] for key in ("rule", "severity", "broken")}}
            for name, table in tables.items()
            for fault in table["failed"]
        ],
        "report": "../validation/index.html",
    }


def rounded(value: Any) -> Any:
    """The same document with DIGITS significant digits per number: small in git, the same on every machine.

    An infinite noise band, as of a column that is missing in one of the windows, becomes null: JSON has no infinity.
    """
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
