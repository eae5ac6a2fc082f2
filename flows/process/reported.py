"""A command that may leave a stage report: its exit status, its report, and the cause of a failure in one line."""

import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common import run_identity, stage_report
from common.stage_report import StageReport, read_report
from flows.process.child_process import Log, run_process

KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # exit statuses: of subprocess, of a shell


@dataclass(frozen=True, kw_only=True)
class ProcessResult:
    """How a process ended: exit status, the report of the last stage that it ran, the last line of its output.

    `run` is the id that the process had: what it wrote bears this id, whatever else lies at the same path.
    """

    status: int
    run: str = ""
    report: StageReport | None = None
    last_line: str | None = None


async def run_reported(command: list[str], *, log: Log, environment: Mapping[str, str] | None = None) -> ProcessResult:
    """Run `command` in the current folder, with `environment`, a new run id and the path of its report."""
    last_line: str | None = None

    def keep(line: str) -> None:
        nonlocal last_line
        last_line = line
        log(line)

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "report.json"
        run = run_identity.new_id()
        variables = {**(environment or {}), stage_report.VARIABLE: str(path), run_identity.VARIABLE: run}
        status = await run_process(command, cwd=Path(), log=keep, environment=variables)
        return ProcessResult(status=status, run=run, report=read_report(path), last_line=last_line)


def cause_of(name: str, result: ProcessResult) -> str:
    """Why the stage or module `name` failed, in one line.

    That is the error of its report (two lines of it at most), if it ended as reported; else that it was killed, or the
    last line of its output, such as that of a traceback.
    """
    report = result.report
    if report is not None and report.error is not None and report.status == result.status:
        return f"{report.module} stopped: {' '.join(report.error.splitlines()[:2])}"
    if result.status in KILLED:
        return f"{name} was killed (signal 9): did the machine run out of memory?"
    return result.last_line or f"{name} failed without output"
