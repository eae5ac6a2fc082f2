"""The release registry: a folder of releases, a link to the champion, and a log of what happened.

    <tag>/            model and bento of a release, with its code, parameters and online store; whole or not there
    champion          relative link to the release in use; exchanged by a rename
    releases.jsonl    one line for every release and every rollback; lines are appended, none is changed
    .followers/       what running services say of themselves (serving/ranking/followers.py)

A kill at any time leaves a valid link, and the same command completes the work. No heavy imports: what decides about a
release is elsewhere.
"""

import contextlib
import filecmp
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import ReleaseError
from common.files import PARTIAL, exclusive_lock, partial_of, sync
from common.paths import MODEL as PACKED_MODEL
from serving.ranking.followers import FOLLOWERS

CHAMPION, RECORDS, MODEL, BENTO = "champion", "releases.jsonl", "model", "bento"
DIGITS = 6  # of the bento's checksum, in the tag of a release
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc")  # made where a bento is served
Record = dict[str, Any]


class Registry:
    """The releases under `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the exclusive lock of the registry; raises ReleaseError where another process holds it."""
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusive_lock(self.folder / ".lock"))
            except BlockingIOError:
                raise ReleaseError(f"{self.folder}: another release is under way; wait for its end") from None
            yield

    def linked_tag(self) -> str | None:
        """The tag that the link names, whether its release exists or not; None before the first release."""
        link = self.folder / CHAMPION
        return link.readlink().name if link.is_symlink() else None

    def champion(self) -> str | None:
        """The tag of the release in use; None before the first; raises ReleaseError where its folder is missing."""
        tag = self.linked_tag()
        if tag is not None and not (self.folder / tag).is_dir():
            raise ReleaseError(
                f"{self.folder / CHAMPION} leads to {tag}, which is not there: `--to` one of {self.tags()}"
            )
        return tag

    def tags(self) -> list[str]:
        """The releases that exist, in the order in which they were first released."""
        known = dict.fromkeys(record["tag"] for record in self.records())
        return [tag for tag in known if (self.folder / tag).is_dir()]

    def records(self) -> list[Record]:
        """What happened, the oldest first; a line that was cut off by a crash is left out."""
        path, records = self.folder / RECORDS, []
        for line in path.read_text().splitlines() if path.exists() else []:
            with contextlib.suppress(ValueError):
                records.append(json.loads(line))
        return records

    def find(self, prefix: str) -> str:
        """The tag that begins with `prefix`; raises ReleaseError where not exactly one existing release has it."""
        matches = [tag for tag in self.tags() if tag.startswith(prefix)]
        if prefix in matches:
            return prefix
        if len(matches) != 1:
            raise ReleaseError(
                f"{self.folder}: expected one release {prefix}, found {matches or 'none'} of {self.tags()}; "
                "an older one can be made again from its commit: `git log release`"
            )
        return matches[0]

    def previous(self, tag: str) -> str:
        """The champion that the release `tag` replaced; raises ReleaseError where there was none, or it is gone."""
        replaced = [
            record["previous"] for record in self.records() if record["tag"] == tag and record["event"] == "release"
        ]
        if not replaced or replaced[-1] is None:
            raise ReleaseError(f"{self.folder}: {tag} is the first release, there is none to go back to")
        return self.find(replaced[-1])

    def withdrawn(self, tag: str) -> Record | None:
        """The record of the rollback from `tag`, unless it was taken into use again since."""
        last = None
        for record in self.records():
            if record["tag"] == tag:
                last = None
            elif record["event"] == "rollback" and record["previous"] == tag:
                last = record
        return last

    def prepare(self, tag: str, *, model: Path, bento: Path) -> None:
        """Copy model and bento to the folder of the release `tag`, whole or not at all.

        The model is in the bento, too: its files are stored once, by hard links where the disk has them.
        """
        self._remove_incomplete(tag)
        if (self.folder / tag).is_dir():
            return
        partial = partial_of(self.folder / tag)
        packed = partial / BENTO / "src" / PACKED_MODEL
        shutil.copytree(bento, partial / BENTO, ignore=_IGNORED)
        shutil.copytree(
            model,
            partial / MODEL,
            ignore=_IGNORED,
            copy_function=lambda source, target: _link_or_copy(Path(source), Path(target), packed / Path(source).name),
        )
        for path in partial.rglob("*"):
            sync(path)
        partial.rename(self.folder / tag)
        sync(self.folder)

    def activate(self, record: Record, *, keep: int) -> None:
        """Make the prepared release of `record` the champion: its record, the link; then remove all but `keep`."""
        self.append(record)
        self.set_champion(record["tag"])
        self._remove_old(keep)

    def append(self, record: Record) -> None:
        """Append a record, unless it is the last one already: a run that was killed before the link is repeated."""
        records = self.records()
        if record["event"] == "release" and records and _same_release(records[-1], record):
            return
        path = self.folder / RECORDS
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def set_champion(self, tag: str) -> None:
        """Let the link lead to `tag`; a reader sees the old release or the new one."""
        partial = partial_of(self.folder / CHAMPION)
        partial.unlink(missing_ok=True)
        partial.symlink_to(tag)
        partial.replace(self.folder / CHAMPION)
        sync(self.folder)

    def _remove_incomplete(self, tag: str) -> None:
        """Remove half-written folders, and whole ones that never became a release, except that of `tag`."""
        known = {record["tag"] for record in self.records()} | {tag}
        for path in self.folder.iterdir():
            if path.name == FOLLOWERS:
                continue
            if path.name.endswith(PARTIAL) or (path.is_dir() and not path.is_symlink() and path.name not in known):
                path.unlink() if path.is_symlink() else shutil.rmtree(path)

    def _remove_old(self, keep: int) -> None:
        """Remove all but the newest `keep` releases, the champion, and the one that it replaced."""
        champion = self.champion()
        replaced = {record["previous"] for record in self.records() if record["tag"] == champion}
        for tag in self.tags()[:-keep]:
            if tag not in replaced | {champion}:
                partial = partial_of(self.folder / tag)
                (self.folder / tag).rename(partial)  # from here on it is no release
                shutil.rmtree(partial)


def _link_or_copy(source: Path, target: Path, twin: Path) -> None:
    """Let `target` be a second name of `twin`, where that has the bytes of `source`; else copy `source`."""
    if twin.is_file() and filecmp.cmp(source, twin, shallow=False):
        with contextlib.suppress(OSError):
            os.link(twin, target)
            return
    shutil.copyfile(source, target)


def _same_release(one: Record, other: Record) -> bool:
    return all(one[name] == other[name] for name in ("event", "tag", "previous"))
