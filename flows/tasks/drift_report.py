"""The drift report on a window of days by `python -m monitoring.drift`, and what it says as messages and pages."""

import datetime
import json
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from common.exit_status import VERDICTS
from common.paths import CHAMPION, FLOWS, MODEL, TRAINING, VALIDATION
from flows.process.python_module import run_module

CURRENT, OUT = f"{TRAINING}/*.parquet", FLOWS / "monitor"
CHAMPION_MODEL = CHAMPION / "model"
FINDINGS_OF_PAGE, FINDINGS_OF_MESSAGE = 10, 3

Report = dict[str, Any]  # the content of drift.json


@task(cache_policy=NO_CACHE)
async def report_drift(as_of: datetime.date, days: int, current: str, reference: Path | None = None) -> Report:
    """The report on the `days` days before `as_of`, by the model in the folder `reference`.

    Without a reference, that is the champion; before the first release, the newest model. Raises CommandError where
    there is no verdict.
    """
    first, last = (as_of - datetime.timedelta(days=ago) for ago in (days, 1))
    options = {
        "--current": current,
        "--reference": str(reference or (CHAMPION_MODEL if CHAMPION_MODEL.exists() else MODEL)),
        "--out": str(OUT),
        "--first-day": str(first),
        "--last-day": str(last),
    }
    if VALIDATION.exists():
        options["--validation"] = str(VALIDATION)
    await run_module("monitoring.drift", options, expected=VERDICTS.values())
    report: Report = json.loads((OUT / "drift.json").read_text())
    return report


def message(report: Report) -> str:
    """The reason of the verdict, the gravest findings, what to do and where to look."""
    findings = [f"- {finding['sentence']}" for finding in report["findings"][:FINDINGS_OF_MESSAGE]]
    return "\n".join([report["reason"], *findings, report["next_step"], f"look closer: {OUT}/index.html"])


def page(report: Report) -> str:
    """The verdict and the findings as Markdown."""
    window = f"{report['current']['first_day']} to {report['current']['last_day']}, {report['current']['rows']:,} rows"
    findings = report["findings"]
    rows = "".join(f"| {f['verdict']} | {f['kind']} | {f['sentence']} |\n" for f in findings[:FINDINGS_OF_PAGE])
    table = f"| verdict | kind | finding |\n|---|---|---|\n{rows}" if rows else "No findings.\n"
    more = len(findings) - FINDINGS_OF_PAGE
    rest = f"\n{more:,} more in" if more > 0 else "\nAll figures:"
    head = f"# {report['verdict']}: {window}\n\n{report['reason']} {report['next_step']}\n\n"
    return f"{head}{table}{rest} `{OUT}/index.html`\n"
