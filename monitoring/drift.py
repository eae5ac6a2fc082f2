"""Stage: the newest window against the training reference: statistics, verdict, and the page that a person reads.

    python -m monitoring.drift --current data/training/test.parquet --reference artifacts/models/hinet --out DIR

Exit status: 0 ok, 1 watch, 2 act, 3 if there is no verdict; with --report-only 0 whatever the verdict.
"""

import hashlib
import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import torch

from common import params, stage
from common.errors import ParameterError
from common.params import Drift
from features.encoding.histograms import Days, Histograms
from models.model_folder import BEHAVIOUR, REFERENCE, Model, read_model
from monitoring.detection import suite
from monitoring.detection.comparison import Comparison
from monitoring.detection.score_shift import performance, score_entries
from monitoring.detection.verdict import conclude, judge, weigh
from monitoring.detection.window import Window, open_window
from monitoring.report.page import write

STATUS = {"ok": 0, "watch": 1, "act": 2}
DIGITS = 6
EXPECTATIONS = "expectations/index.html"  # beside the page


def drift(
    *,
    current: Path,
    reference: Path,
    out: Path,
    first_day: date | None = None,
    last_day: date | None = None,
    validation: Path | None = None,
    report_only: bool = False,
) -> int:
    """Judge the Parquet file(s) `current` by the model folder `reference`; write drift.json and index.html to `out`.

    `current` is a file or a pattern, of which the rows from `first_day` to `last_day` (UTC) are taken, or all.
    `validation` is the report of the gate, whose findings the page repeats. Returns the exit status.
    """
    torch.set_num_threads(stage.threads())
    limits, model = params.load().drift, read_model(reference)
    window = compare(current, model, reference, limits, days=days_of(first_day, last_day))
    tests = weigh(window, limits)
    report = rounded({**conclude(window, tests), "quality": quality_of(validation), "expectations": EXPECTATIONS})
    out.mkdir(parents=True, exist_ok=True)
    suite.publish(
        tests,
        name=model.schema.name,
        rows=report["current"]["rows"],
        report=out / "expectations.json",
        docs=(out / EXPECTATIONS).parent,
    )
    (out / "drift.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    write(report, out / "index.html")
    for found in report["findings"][:10]:
        print(f"  {found['verdict']}: {found['sentence']}")
    print(f"{report['verdict']}: {report['reason']} {report['next_step']}", flush=True)
    return 0 if report_only else STATUS[report["verdict"]]


def examine(current: Path, model: Model, folder: Path, limits: Drift, *, days: Days | None = None) -> dict[str, Any]:
    """The report on the window `current`, as it stands in drift.json."""
    return judge(compare(current, model, folder, limits, days=days), limits)


def compare(current: Path, model: Model, folder: Path, limits: Drift, *, days: Days | None = None) -> dict[str, Any]:
    """The comparison of the window `current` (some days of it) with the reference in the model folder."""
    reference = Histograms.read(folder / REFERENCE)
    behaviour = json.loads((folder / BEHAVIOUR).read_text())
    window = open_window(current, model, reference, behaviour, most=limits.scored_rows, days=days)
    comparison = Comparison(reference, window.histograms, fewest=limits.fewest_rows)
    return {
        "dataset": model.schema.name,
        "reference": _told(reference) | _model(model, folder),
        "current": _told(window.histograms) | _source(window),
        "limits": _limits(limits),
        "mix": comparison.mix(model.schema),
        "columns": comparison.columns(model.schema, behaviour["importance"]),
        "labels": list(comparison.labels(model.schema)),
        "scores": list(score_entries(behaviour["scores"], window.scores)),
        "performance": list(
            performance(window.probabilities, window.labels, window.scenario, model.schema, behaviour["scores"])
        ),
    }


def days_of(first_day: date | None, last_day: date | None) -> Days | None:
    """The days asked for; raises ParameterError where only one end is given or the ends are exchanged."""
    if first_day is None and last_day is None:
        return None
    if first_day is None or last_day is None or last_day < first_day:
        raise ParameterError(f"--first-day {first_day} --last-day {last_day}: expected both, in this order")
    return first_day, last_day


def _limits(limits: Drift) -> dict[str, float]:
    """Every limit by its name: psi_watch, psi_act, ..., significance."""
    found: dict[str, float] = {}
    for name, value in limits.model_dump().items():
        found |= {f"{name}_{level}": one for level, one in value.items()} if isinstance(value, dict) else {name: value}
    return found


def _told(window: Histograms) -> dict[str, Any]:
    return {
        "first_day": window.first_day.isoformat(),
        "last_day": window.last_day.isoformat(),
        "days": len(window.rows),
        "rows": int(window.rows.sum()),
    }


def _model(model: Model, folder: Path) -> dict[str, Any]:
    digest = hashlib.sha256((folder / REFERENCE).read_bytes()).hexdigest()
    return {"model": model.name, "tag": model.tag, "sha256": digest}


def _source(window: Window) -> dict[str, Any]:
    labelled = int((window.labels == window.labels).any(axis=1).sum())
    return {
        "sha256": window.sha256,
        "source": "served" if window.served else "log",
        "scored_rows": len(window.scenario),
        "labelled_rows": labelled,
    }


def quality_of(validation: Path | None) -> dict[str, Any] | None:
    """What the gate found in the log: rows, rows in quarantine, and the expectations that were not met."""
    if validation is None:
        return None
    tables = json.loads(validation.read_text())["tables"]
    return {
        "rows": tables["events"]["rows"],
        "quarantined": {name: found["quarantined"] for name, found in tables.items()},
        "failed": [
            {"table": name, **{key: broken[key] for key in ("rule", "severity", "broken")}}
            for name, found in tables.items()
            for broken in found["failed"]
        ],
        "report": "../validation/index.html",
    }


def rounded(value: Any) -> Any:
    """The same document, its numbers with DIGITS significant digits: small in git, the same on every machine.

    A band of noise without an end, as of a column that one of the windows lacks, is null: JSON knows none.
    """
    if isinstance(value, dict):
        return {key: rounded(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(held) for held in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    stage.run(drift, failed=3)
