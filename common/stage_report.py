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


def write_report(report: StageReport) -> None:
    """Write `report` to the file that the environment names; where it names none, nothing is written."""
    if VARIABLE in os.environ:
        write_text(Path(os.environ[VARIABLE]), json.dumps(dataclasses.asdict(report)) + "\n")


def read_report(path: Path) -> StageReport | None:
    """The report in `path`; None where the process ended without one (killed, or a fault with a traceback)."""
    return StageReport(**json.loads(path.read_text())) if path.exists() else None
