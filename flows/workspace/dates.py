"""What each flow has done, by logical date: done twice is done once, and nothing runs behind a newer date."""

import datetime
import fcntl
import json
import os
import tempfile
from pathlib import Path
from typing import Literal

from prefect.states import Completed, State

from common.errors import PipelineError
from flows.workspace.lock import FOLDER

Moment = datetime.date | datetime.datetime
SKIPPED = {"done": "{} is done", "newer": "a date newer than {} is done"}


def claim(flow: str, as_of: Moment) -> Literal["run", "done", "newer"]:
    """Whether `flow` has to run for `as_of`: "run", "done" (this date was finished), "newer" (a newer one was).

    Two that ask at once are both told to run: ask while the workspace is held (flows.workspace.lock.alone).
    """
    newest = _newest(FOLDER / f"{flow}.json")
    if newest is None or newest < _moment(as_of):
        return "run"
    return "done" if newest == _moment(as_of) else "newer"


def skipped(flow: str, as_of: Moment) -> State | None:
    """The final state of a run that has nothing to do, None for one that has."""
    found = claim(flow, as_of)
    return None if found == "run" else Completed(name="Skipped", message=SKIPPED[found].format(as_of))


def finish(flow: str, as_of: Moment) -> None:
    """Remember that `flow` is done for `as_of`; an older date than the one remembered changes nothing."""
    path = FOLDER / f"{flow}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may finish another date just now
        if claim(flow, as_of) == "run":
            _write(path, {"done": _moment(as_of).isoformat()})


def _moment(as_of: Moment) -> datetime.datetime:
    """A date is its midnight (UTC); a moment has to say its zone."""
    if not isinstance(as_of, datetime.datetime):
        return datetime.datetime(as_of.year, as_of.month, as_of.day, tzinfo=datetime.UTC)
    if as_of.tzinfo is None:
        raise PipelineError(f"as_of: expected a date, or a moment with its zone, found {as_of.isoformat()}")
    return as_of.astimezone(datetime.UTC)


def _newest(path: Path) -> datetime.datetime | None:
    if not path.exists():
        return None
    try:
        return _moment(datetime.datetime.fromisoformat(json.loads(path.read_text())["done"]))
    except (ValueError, KeyError, TypeError) as error:
        raise PipelineError(f'{path}: expected {{"done": <moment>}}, found {error}; remove it to run anew') from error


def _write(path: Path, document: dict[str, str]) -> None:
    """All or nothing: a reader sees the old file or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
