"""Reproduces one stage through DVC's API and writes what became of it as JSON; a separate process.

    python flows/stages/reproduce.py NAME RESULT

Run as a file, so that a flow and this script are of the same version, whatever project the current folder holds.
"""

import contextlib
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from dvc.exceptions import DvcException, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage.cache import StageCache
from dvc.stage.exceptions import StageCmdFailedError

RAN, RESTORED, UP_TO_DATE, BUSY, FAILED = "ran", "restored", "up to date", "busy", "failed"


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What became of a stage: ran, restored (from the run cache), up to date, busy (files in use), or failed.

    `error` is DVC's reason for busy and failed, `command_status` the exit status of a stage's command that failed.
    """

    state: str
    error: str | None = None
    command_status: int | None = None

    @property
    def exit_status(self) -> int:
        """The exit status of a process with this outcome."""
        return int(self.state in (BUSY, FAILED))


class CommandFailedError(StageCmdFailedError):  # type: ignore[misc]
    """DVC's error of a command that failed, with the exit status, which DVC keeps in the message only."""

    def __init__(self, command: str, status: int | None = None) -> None:
        super().__init__(command, status)
        self.status = status


class RunCache(StageCache):  # type: ignore[misc]
    """DVC's run cache; remembers whether a stage was restored from it."""

    restored = False

    def restore(self, stage: Any, **options: Any) -> None:
        """Check out the outputs of an equal run; raises RunCacheNotFoundError where there was none."""
        super().restore(stage, **options)
        self.restored = True


def reproduce(name: str) -> Reproduction:
    """Reproduce the stage `name` of the repository in the current folder, without the stages that it depends on.

    Waits while another DVC process holds the lock of the repository.
    """
    # without waiting, a stage that ends while another one is hashed for 3 s is lost
    with contextlib.closing(Repo(_wait_for_lock=True)) as repo:
        repo.stage_cache = cache = RunCache(repo)
        try:
            with mock.patch("dvc.stage.run.StageCmdFailedError", CommandFailedError):
                reproduced = repo.reproduce(targets=[name], single_item=True)
        except DvcException as error:
            return _failure(error)
    return Reproduction(state=UP_TO_DATE if not reproduced else RESTORED if cache.restored else RAN)


def _failure(error: DvcException) -> Reproduction:
    cause = error.__cause__ if isinstance(error, ReproductionError) and error.__cause__ else error
    text = str(error) if cause is error else f"{error}: {cause}"
    if isinstance(cause, LockError):
        return Reproduction(state=BUSY, error=text)
    status = cause.status if isinstance(cause, CommandFailedError) else None
    return Reproduction(state=FAILED, error=text, command_status=status)


def read_reproduction(path: Path) -> Reproduction | None:
    """What the script wrote to `path`; None where its process ended before it had written it whole."""
    try:
        return Reproduction(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def main(name: str, result: str) -> int:
    """Reproduce the stage `name`, write the outcome to the file `result`; 1 where it did not end up to date."""
    reproduction = reproduce(name)
    partial = Path(f"{result}.partial")
    partial.write_text(json.dumps(dataclasses.asdict(reproduction)), encoding="utf-8")
    partial.replace(result)
    return reproduction.exit_status


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):  # the flow was cancelled; DVC has released its locks
        sys.exit(main(*sys.argv[1:]))
    sys.exit(1)
