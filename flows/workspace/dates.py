"""The newest logical date that each flow has finished: a date runs once, and never after a newer one."""

import datetime
import json
from pathlib import Path
from typing import Literal

from prefect import State
from prefect.states import Completed

from common.errors import PipelineError
from common.files import exclusive_lock, write_text
from common.paths import FLOWS

LogicalDate = datetime.date | datetime.datetime
SKIPPED = {"done": "{} is done", "newer": "a date newer than {} is done"}


def progress(flow: str, as_of: LogicalDate) -> Literal["due", "done", "newer"]:
    """Whether `flow` is due for `as_of`, has done it, or has done a newer date.

    Two callers at once may both get "due": call it while you hold the workspace (flows.workspace.lock).
    """
    newest = _newest(_state_file(flow))
    if newest is None or newest < _timestamp(as_of):
        return "due"
    return "done" if newest == _timestamp(as_of) else "newer"


def skipped(flow: str, as_of: LogicalDate) -> State | None:
    """The final state of a run that has nothing to do, None for a run that has."""
    state = progress(flow, as_of)
    return None if state == "due" else Completed(name="Skipped", message=SKIPPED[state].format(as_of))


def mark_done(flow: str, as_of: LogicalDate) -> None:
    """Record that `flow` is done for `as_of`; a date older than the recorded one changes nothing."""
    path = _state_file(flow)
    with exclusive_lock(path.with_suffix(".lock"), wait=True):  # another process may finish another date just now
        if progress(flow, as_of) == "due":
            write_text(path, json.dumps({"done": _timestamp(as_of).isoformat()}))


def _state_file(flow: str) -> Path:
    return FLOWS / f"{flow}.json"


def _timestamp(as_of: LogicalDate) -> datetime.datetime:
    """A date as its midnight in UTC, a timestamp in UTC; raises PipelineError for a timestamp without a time zone."""
    if not isinstance(as_of, datetime.datetime):
        return datetime.datetime(as_of.year, as_of.month, as_of.day, tzinfo=datetime.UTC)
    if as_of.tzinfo is None:
        raise PipelineError(f"as_of: expected a date, or a timestamp with its zone, found {as_of.isoformat()}")
    return as_of.astimezone(datetime.UTC)


def _newest(path: Path) -> datetime.datetime | None:
    if not path.exists():
        return None
    try:
        return _timestamp(datetime.datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["done"]))
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f'{path}: expected {{"done": <timestamp>}}, found {error}; remove it to run anew'
        ) from error
