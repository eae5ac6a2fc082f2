"""The folder of the releases: finished folders, a pointer to the champion, and a file of what happened.

    <tag>/            model and bento of a release; it is there as a whole or not at all
    champion          relative link to the release in use; exchanged by a rename
    releases.jsonl    one line for every release and every way back; lines are added, none is changed

Whatever is killed at whatever moment, the pointer is valid, and the same command goes on from there. Standard library
only: what decides about a release is elsewhere.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ReleaseError

CHAMPION, RECORDS, MODEL, BENTO = "champion", "releases.jsonl", "model", "bento"
DIGITS = 6
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")  # made where a bento is served
Record = dict[str, Any]


class Releases:
    """The releases under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else releases meanwhile; raises ReleaseError where somebody does. The lock ends with the process."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ReleaseError(f"{self.folder}: another release is under way; wait for its end") from None
            yield

    def pointed(self) -> str | None:
        """The tag that the pointer names, whether it is there or not; None before the first release."""
        link = self.folder / CHAMPION
        return link.readlink().name if link.is_symlink() else None

    def champion(self) -> str | None:
        """The tag of the release in use; None before the first; raises ReleaseError where the link leads nowhere."""
        tag = self.pointed()
        if tag is not None and not (self.folder / tag).is_dir():
            raise ReleaseError(
                f"{self.folder / CHAMPION} leads to {tag}, which is not there: `--to` one of {self.tags()}"
            )
        return tag

    def tags(self) -> list[str]:
        """The releases that are there, in the order in which they were first released."""
        known = dict.fromkeys(record["tag"] for record in self.records())
        return [tag for tag in known if (self.folder / tag).is_dir()]

    def records(self) -> list[Record]:
        """What happened, first things first; a line that was cut by a crash is left out."""
        path, found = self.folder / RECORDS, []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def find(self, text: str) -> str:
        """The tag that begins with `text`; raises ReleaseError where there is not exactly one that is still there."""
        found = [tag for tag in self.tags() if tag.startswith(text)]
        if text in found:
            return text
        if len(found) != 1:
            raise ReleaseError(
                f"{self.folder}: expected one release {text}, found {found or 'none'} of {self.tags()}; "
                "an older one can be made again from its commit: `git log release`"
            )
        return found[0]

    def before(self, tag: str) -> str:
        """The champion that the release `tag` replaced; raises ReleaseError where there was none, or it is gone."""
        found = [
            record["previous"] for record in self.records() if record["tag"] == tag and record["event"] == "release"
        ]
        if not found or found[-1] is None:
            raise ReleaseError(f"{self.folder}: {tag} is the first release, there is none to go back to")
        return self.find(found[-1])

    def withdrawn(self, tag: str) -> Record | None:
        """The record of the way back from `tag`, if nobody took it into use again since."""
        last = None
        for record in self.records():
            if record["tag"] == tag:
                last = None
            elif record["event"] == "rollback" and record["previous"] == tag:
                last = record
        return last

    def prepare(self, tag: str, *, model: Path, bento: Path) -> None:
        """Copy model and bento beside the place of the release `tag`, then put both there at once."""
        self._sweep(tag)
        if (self.folder / tag).is_dir():
            return
        partial = self.folder / f".{tag}.partial"
        shutil.copytree(model, partial / MODEL, ignore=_LEFT_OUT)
        shutil.copytree(bento, partial / BENTO, ignore=_LEFT_OUT)
        for path in partial.rglob("*"):
            _flush(path)
        partial.rename(self.folder / tag)
        _flush(self.folder)

    def publish(self, record: Record, *, keep: int) -> None:
        """Make the prepared release of `record` the champion: its line, the pointer; then forget the oldest."""
        self.record(record)
        self.point(record["tag"])
        self._forget(keep)

    def record(self, record: Record) -> None:
        """Add a line, unless it is the last one already: what was killed before it moved the pointer comes again."""
        records = self.records()
        if record["event"] == "release" and records and _same(records[-1], record):
            return
        path = self.folder / RECORDS
        cut = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a") as file:
            file.write("\n" * cut + json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def point(self, tag: str) -> None:
        """Make `tag` the champion: readers see the old one or the new one, and nothing else."""
        partial = self.folder / f".{CHAMPION}.partial"
        partial.unlink(missing_ok=True)
        partial.symlink_to(tag)
        partial.replace(self.folder / CHAMPION)
        _flush(self.folder)

    def _sweep(self, tag: str) -> None:
        """Remove what was left half done, and finished folders that never became a release, unless it is `tag`'s."""
        known = {record["tag"] for record in self.records()} | {tag}
        for path in self.folder.iterdir():
            if path.name.endswith(".partial") or (path.is_dir() and not path.is_symlink() and path.name not in known):
                path.unlink() if path.is_symlink() else shutil.rmtree(path)

    def _forget(self, keep: int) -> None:
        """Remove all but the newest `keep` releases, the champion, and the one before it."""
        champion = self.champion()
        before = {record["previous"] for record in self.records() if record["tag"] == champion}
        for tag in self.tags()[:-keep]:
            if tag not in before | {champion}:
                gone = self.folder / f".{tag}.partial"
                (self.folder / tag).rename(gone)  # first of all it is no release any more
                shutil.rmtree(gone)


def digest(folder: Path) -> str:
    """sha256 over the names and bytes of every file under `folder`, less what Python compiled there."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        with path.open("rb") as file:
            found.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


def _same(one: Record, other: Record) -> bool:
    return all(one[name] == other[name] for name in ("event", "tag", "previous"))


def _flush(path: Path) -> None:
    """Let the disk have it: what a rename promises must be there after a power cut, too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
