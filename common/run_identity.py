"""Which run wrote a report: its id, its time and the data that it read, as the block `run` of the report.

Outputs of DVC stages have no such block: they are the same bytes whenever they are made, and dvc.lock records of what.
"""

import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

VARIABLE = "HINET_RUN_ID"  # the id of the process that it is set for; a flow sets it for each process that it starts
KEY = "run"  # of the block in a report
PREVIOUS = ".previous"  # ends the name of the folder in which a flow keeps its last whole report


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """The id of a process, the time (UTC, ISO 8601) of its report, SHA-256 of the data that the report is of."""

    id: str
    time: str
    data: str | None

    def block(self) -> dict[str, dict[str, str | None]]:
        """The block `run` of a report, to be merged into its document."""
        return {KEY: asdict(self)}


def this_run(data: str | None) -> RunIdentity:
    """The identity of this process, whose report is of the `data` with that SHA-256 (None: not of files)."""
    run = os.environ.get(VARIABLE) or new_id()
    return RunIdentity(id=run, time=datetime.now(UTC).isoformat(timespec="seconds"), data=data)


def new_id() -> str:
    """An id that no other run has."""
    return str(uuid.uuid4())


def read_run(document: object) -> RunIdentity | None:
    """The identity of the run that wrote a report; None for a report without one, such as the output of a stage."""
    block = document.get(KEY) if isinstance(document, Mapping) else None
    if not isinstance(block, Mapping):
        return None
    values: dict[str, Any] = {name: block.get(name) for name in ("id", "time", "data")}
    if not (isinstance(values["id"], str) and isinstance(values["time"], str)):
        return None
    return RunIdentity(**values) if isinstance(values["data"], str | None) else None
