"""Stubs of the modules that flows run as processes: they leave what a test wants and run nothing."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.run_identity import RunIdentity, new_id
from common.stage_report import StageReport
from flows.process.reported import ProcessResult


@dataclass(frozen=True, kw_only=True)
class Stub:
    """The end of a process: exit status, error of its report, and the JSON documents that it writes.

    A document is written to the path that is its key, or to the path that the command gives for an option of that name,
    with the identity of the process.
    """

    status: int = 0
    error: str | None = None
    documents: dict[str, Any] = field(default_factory=dict)


def stub_modules(*stubs: Stub, commands: list[list[str]]) -> Callable[..., Awaitable[ProcessResult]]:
    """A `run_reported` that ends like one stub after the other, the last one again and again; keeps the commands."""
    left = list(stubs)

    async def run_reported(command: list[str], *, log: Callable[[str], None]) -> ProcessResult:
        commands.append(command)
        run = new_id()
        stub = left.pop(0) if len(left) > 1 else left[0]
        for name, document in stub.documents.items():
            path = Path(command[command.index(name) + 1] if name in command else name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(document | run_block(run)))
        return ended(command[2], status=stub.status, error=stub.error, run=run)

    return run_reported


def run_block(run: str) -> dict[str, Any]:
    """The block `run` of a report of the process with that id."""
    return RunIdentity(id=run, time="2026-01-18T03:00:00+00:00", data="5e1f").block()


def ended(module: str, *, status: int = 0, error: str | None = None, run: str = "") -> ProcessResult:
    """The result of a process of `module` that wrote a report."""
    report = StageReport(module=module, status=status, error=error, seconds=1.5, peak_megabytes=100.0)
    return ProcessResult(status=status, run=run, report=report, last_line="its last line")
