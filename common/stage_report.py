"""What a stage reports to the flow that started it: one small JSON file, instead of sentences to be parsed."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path

from common.files import write_text

VARIABLE = "HINET_STAGE_REPORT"  # names the file; set by the flow for the process that it starts


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """The end of one process: module, exit status, the message of its error, seconds, peak memory in MB."""

    module: str
    status: int
    error: str | None
    seconds: float
    peak_megabytes: float


def claim_report() -> Path | None:
    """Where the report of this process goes, if a flow started it; the report of an earlier process there is removed.

    The variable is taken out of the environment: a stage that this process starts must not report as this one.
    """
    path = os.environ.pop(VARIABLE, "")
    if not path:
        return None
    Path(path).unlink(missing_ok=True)
    return Path(path)


def write_report(report: StageReport, path: Path) -> None:
    """Write `report` to `path`, whole or not at all."""
    write_text(path, json.dumps(dataclasses.asdict(report)) + "\n")


def read_report(path: Path) -> StageReport | None:
    """The report in `path`; None where the process ended without a whole one (killed, or a fault with a traceback)."""
    try:
        return StageReport(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
