"""Running services that follow a link to a model: each says in a file beside the link what it has in use.

A worker holds a lock on its file while it runs, so that whoever exchanges the link (release/) sees which services are
alive, and observes whether they took the new model into use. Where the folder cannot be written, nobody sees it.
"""

import contextlib
import dataclasses
import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from common.files import exclusive_lock, write_text

FOLLOWERS = ".followers"  # in the folder of the link
_LOCK, _STATE = ".lock", ".json"


@dataclass(frozen=True)
class Following:
    """What a worker says of itself: the folder behind the link that it has in use, and the one that it refused.

    `reason` says why it refused that one. It looks for another target every `seconds`.
    """

    process: str
    in_use: str
    seconds: float
    refused: str | None = None
    reason: str | None = None


class Follower:
    """A worker's file beside the link `model` leads through, written whenever something changes."""

    def __init__(self, folder: Path, state: Following) -> None:
        self._path, self._state = folder / f"{os.getpid()}-{uuid.uuid4().hex[:8]}", state
        self._held = contextlib.ExitStack()
        self._held.enter_context(exclusive_lock(self._path.with_suffix(_LOCK), wait=True))
        self._write()

    @classmethod
    def of(cls, model: Path, in_use: Path, seconds: float) -> Self | None:
        """The follower of a model folder `model` whose parent is a link; None where it is none or cannot be written."""
        if not model.parent.is_symlink():
            return None
        process = f"{os.getpid()} on {socket.gethostname()}"
        with contextlib.suppress(OSError):
            return cls(model.parent.parent / FOLLOWERS, Following(process, in_use.parent.name, seconds))
        return None

    def took(self, in_use: Path) -> None:
        """Say that the model folder `in_use` is in use."""
        self._state = dataclasses.replace(self._state, in_use=in_use.parent.name, refused=None, reason=None)
        self._write()

    def refused(self, model: Path, reason: str) -> None:
        """Say that the model folder behind the link could not be taken into use, and why."""
        self._state = dataclasses.replace(self._state, refused=model.parent.name, reason=reason)
        self._write()

    def close(self) -> None:
        """Remove the file."""
        self._held.close()
        _remove(self._path)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            write_text(self._path.with_suffix(_STATE), json.dumps(dataclasses.asdict(self._state)) + "\n")


def followers(folder: Path) -> list[Following]:
    """The running workers that follow a link in `folder`; what ended workers left is removed."""
    running = []
    for lock in sorted((folder / FOLLOWERS).glob(f"*{_LOCK}")):
        try:
            with exclusive_lock(lock):
                _remove(lock.with_suffix(""))
        except BlockingIOError:
            with contextlib.suppress(OSError, ValueError):
                running.append(Following(**json.loads(lock.with_suffix(_STATE).read_text())))
        except OSError:
            continue  # of another user: nothing is known of it
    return running


def _remove(path: Path) -> None:
    for suffix in (_STATE, _LOCK):
        with contextlib.suppress(OSError):
            path.with_suffix(suffix).unlink(missing_ok=True)
