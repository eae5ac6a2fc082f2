"""Repairs DVC's own files after a kill: it overwrites them, so that a kill leaves half a file behind for ever.

A copy of dvc.lock is kept during a run; a copy that exists before a run begins was left by a run that died.
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

from common.files import replacing
from common.paths import FLOWS
from flows.process.child_process import Log

LOCK_FILE, COPY = Path("dvc.lock"), FLOWS / "dvc.lock"


@contextlib.asynccontextmanager
async def recovery(*, log: Log) -> AsyncIterator[None]:
    """Repair what an earlier run left, keep a copy meanwhile, repair what this run leaves. Needs the workspace lock."""
    await asyncio.to_thread(repair, log)
    try:
        yield
    finally:
        repair(log)
        COPY.unlink(missing_ok=True)


def repair(log: Log) -> None:
    """Repair DVC's files if they are cut off, else keep a copy; waits while a DVC process holds its lock to write."""
    with contextlib.closing(Repo(_wait_for_lock=True)) as repo, repo.lock:
        users = Path(repo.tmp_dir or ".dvc/tmp") / "rwlock"
        if users.exists() and not _is_json(users):
            users.unlink()
            log(f"{users.name} of DVC was cut off by a kill: removed")
        if _stages(COPY) - _stages(LOCK_FILE):
            _copy(COPY, LOCK_FILE)
            log("dvc.lock was cut off by a kill: put back as of the last whole stage")
        elif LOCK_FILE.exists():
            _copy(LOCK_FILE, COPY)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as partial:
        shutil.copy(source, partial)


def _stages(path: Path) -> set[str]:
    """The stages of a lock file; none of one that cannot be read."""
    try:
        return set(validate(load_yaml(str(path)), COMPILED_LOCKFILE_SCHEMA, path=str(path))["stages"])
    except (DvcException, FileNotFoundError, KeyError):
        return set()


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
