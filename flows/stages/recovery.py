"""DVC's own files after a kill: it writes them in place, so one killed meanwhile leaves half of them, for ever.

A copy of dvc.lock is kept while a run goes on; a copy that is there before a run begins is left by one that died.
"""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.utils.serialize import load_yaml
from dvc.utils.strictyaml import validate

from flows.process.child_process import Log
from flows.workspace.lock import FOLDER

LOCK_FILE, KEPT = Path("dvc.lock"), FOLDER / "dvc.lock"


@contextlib.asynccontextmanager
async def recovery(*, log: Log) -> AsyncIterator[None]:
    """Mend what a run before this one left, keep a copy meanwhile, mend what this one leaves. Hold the workspace."""
    await asyncio.to_thread(check, log)
    try:
        yield
    finally:
        check(log)
        KEPT.unlink(missing_ok=True)


def check(log: Log) -> None:
    """Mend DVC's files if they are cut off, else keep a copy; waits while a DVC has its lock, as when it writes."""
    with contextlib.closing(Repo(_wait_for_lock=True)) as repo, repo.lock:
        writers = Path(repo.tmp_dir or ".dvc/tmp") / "rwlock"
        if writers.exists() and not _is_json(writers):
            writers.unlink()
            log(f"{writers.name} of DVC was cut off by a kill: removed")
        if _stages(KEPT) - _stages(LOCK_FILE):
            _copy(KEPT, LOCK_FILE)
            log("dvc.lock was cut off by a kill: put back as of the last whole stage")
        elif LOCK_FILE.exists():
            _copy(LOCK_FILE, KEPT)


def _copy(source: Path, target: Path) -> None:
    """By rename: the copy is whole, or it is not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, FOLDER / "dvc.lock.new")
    (FOLDER / "dvc.lock.new").replace(target)


def _stages(path: Path) -> set[str]:
    """The stages of a lock file; none of one that cannot be read."""
    try:
        return set(validate(load_yaml(str(path)), COMPILED_LOCKFILE_SCHEMA, path=str(path))["stages"])
    except (DvcException, FileNotFoundError, KeyError):
        return set()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
