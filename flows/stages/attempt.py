"""One attempt at a stage: DVC reproduces it in a separate process, once no other DVC process uses its files."""

import asyncio
import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flows.process.child_process import Log
from flows.process.reported import ProcessResult, cause_of, run_reported
from flows.stages import reproduce
from flows.stages.recovery import repair
from flows.stages.reproduce import BUSY, FAILED, Reproduction, read_reproduction

SCRIPT = reproduce.__file__
BUSY_SECONDS, BUSY_ATTEMPTS = 10.0, 360  # while another DVC process writes what this stage reads: an hour


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of the stage `name`, and how the process ended in which DVC ran it."""

    name: str
    reproduction: Reproduction
    process: ProcessResult

    @property
    def peak_memory(self) -> str | None:
        """Of the stage's process, such as "1,234 MB"; None for a command that writes no report."""
        report = self.process.report
        return None if report is None else f"{report.peak_megabytes:,.0f} MB"

    @property
    def cause(self) -> str:
        """Why the stage failed, in one line: the reason of its command, or that of DVC where no command failed."""
        error, status = self.reproduction.error, self.reproduction.command_status
        if error is not None and status is None:
            return " ".join(error.split())
        process = self.process if status is None else dataclasses.replace(self.process, status=status)
        return cause_of(self.name, process)


async def attempt(name: str, log: Log, environment: Mapping[str, str] | None = None) -> Attempt:
    """Let DVC reproduce the stage `name`, with these variables more; while its files are in use, wait and try again."""
    for _ in range(BUSY_ATTEMPTS):
        await asyncio.to_thread(repair, log)
        made = await _run_dvc(name, log, environment)
        if made.reproduction.state != BUSY:
            break
        log(f"waits {BUSY_SECONDS:g} s for another DVC process")
        await asyncio.sleep(BUSY_SECONDS)
    return made


async def _run_dvc(name: str, log: Log, environment: Mapping[str, str] | None) -> Attempt:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "reproduction.json"
        # -P: the folder of the script is not searched for modules
        process = await run_reported([sys.executable, "-P", SCRIPT, name, str(path)], log=log, environment=environment)
        reproduction = read_reproduction(path)
    if reproduction is None or reproduction.exit_status != process.status:  # it was killed, or crashed after it wrote
        reproduction = Reproduction(state=FAILED)
    if reproduction.error:
        log(reproduction.error)
    return Attempt(name=name, reproduction=reproduction, process=process)
