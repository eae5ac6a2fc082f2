"""The drift report on a window of days by `python -m monitoring.drift`, and what it says as messages and pages."""

import datetime
from pathlib import Path
from typing import Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from common.dvc_lock import outdated_outputs
from common.exit_status import VERDICTS
from common.paths import CHAMPION_MODEL, FLOWS, MODEL, TRAINING, VALIDATION
from flows.ops.written_by import written_by
from flows.process.document import Document, run_for_document, set_aside

CURRENT, OUT = f"{TRAINING}/*.parquet", FLOWS / "monitor"
REPORT = "drift.json"
FINDINGS_OF_PAGE, FINDINGS_OF_MESSAGE = 10, 3


class Finding(BaseModel):
    """A finding: how grave, of which kind, and its sentence."""

    verdict: str
    kind: str
    sentence: str


class Window(BaseModel):
    """The days and rows that were compared."""

    first_day: datetime.date
    last_day: datetime.date
    rows: int


class Report(Document):
    """What the flows read of drift.json; the exit status of its process is that of the verdict."""

    statuses = tuple(VERDICTS.values())

    verdict: Literal["ok", "watch", "act"]
    reason: str
    next_step: str
    current: Window
    findings: list[Finding]

    @property
    def status(self) -> int:
        """The exit status of the verdict."""
        return VERDICTS[self.verdict]


@task(cache_policy=NO_CACHE)
async def report_drift(as_of: datetime.date, days: int, current: str, reference: Path | None = None) -> Report:
    """The report on the `days` days before `as_of`, by the model in the folder `reference`.

    Without a reference, that is the champion; before the first release, the newest model. Raises CommandError where
    there is no verdict of this run.
    """
    first, last = (as_of - datetime.timedelta(days=ago) for ago in (days, 1))
    options = {
        "--current": current,
        "--reference": str(reference or (CHAMPION_MODEL if CHAMPION_MODEL.exists() else MODEL)),
        "--out": str(OUT),
        "--first-day": str(first),
        "--last-day": str(last),
    }
    if VALIDATION.exists() and str(VALIDATION) not in outdated_outputs(Path()):  # else it is not of the rows compared
        options["--validation"] = str(VALIDATION)
    set_aside(OUT, REPORT)
    return await run_for_document(Report, "monitoring.drift", options, OUT / REPORT)


def message(report: Report) -> str:
    """The reason of the verdict, the gravest findings, what to do and where to look."""
    findings = [f"- {finding.sentence}" for finding in report.findings[:FINDINGS_OF_MESSAGE]]
    return "\n".join([report.reason, *findings, report.next_step, f"look closer: {OUT}/index.html"])


def page(report: Report) -> str:
    """The verdict and the findings as Markdown."""
    window = f"{report.current.first_day} to {report.current.last_day}, {report.current.rows:,} rows"
    findings = report.findings
    rows = "".join(f"| {f.verdict} | {f.kind} | {f.sentence} |\n" for f in findings[:FINDINGS_OF_PAGE])
    table = f"| verdict | kind | finding |\n|---|---|---|\n{rows}" if rows else "No findings.\n"
    more = len(findings) - FINDINGS_OF_PAGE
    rest = f"\n{more:,} more in" if more > 0 else "\nAll figures:"
    head = f"# {report.verdict}: {window}\n\n{report.reason} {report.next_step}\n\n"
    return f"{head}{table}{rest} `{OUT}/index.html`\n\n{written_by(report.run)}\n"
