"""Command refresh after a kill, on a locked store, without disk space and on a damaged store."""

import contextlib
import fcntl
import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.errors import ParameterError, StoreError, ValidationError
from common.exit_status import LOCKED
from common.paths import ROOT
from features import refresh as refreshing
from features.quality import online_store as quality
from features.store import online_store
from features.store.definitions import open_store
from features.store.incremental import Watermark
from features.store.item_snapshot import item_snapshot_path
from features.store.online_store import WATERMARK, StoreUnavailableError, state_dir
from tests.support.refreshed_store import (
    DAY,
    FEATURES,
    FIRST,
    LAST,
    ONLINE,
    OUT,
    copy_offline_store,
    materialized,
    stored,
    update,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("without_data_docs")]


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A folder with the offline store of the tiny world and no online store."""
    return copy_offline_store(project, tmp_path / "project")


def dies(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """`function`, at whose call number `call` the process ends."""
    calls = iter(range(100))

    def dying(*values: object, **named: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*values, **named)

    return dying


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [(online_store, "record_written", 1), (quality, "check_online", 0), (refreshing, "write_text", 0)],
)
def test_a_killed_run_is_completed_by_the_same_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, call: int
) -> None:
    """Wherever it ends, the same command completes it; one with an earlier target names the command to run instead."""
    update(folder, FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies(getattr(module, name), call))
        with pytest.raises(KeyboardInterrupt):
            update(folder, FIRST + DAY)
    if name != "write_text":  # the last of all: the store is done
        with pytest.raises(ParameterError, match=r"(?s)begun.*Run again with --as-of 2026-01-07T12:00:00 or later"):
            update(folder, FIRST + DAY / 2)
    update(folder, FIRST + DAY)
    assert stored(folder / ONLINE) == materialized(folder, FIRST + DAY, tmp_path)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("view", [1, 2, 3])
def test_a_run_killed_by_a_signal_is_completed_by_the_same_command(folder: Path, tmp_path: Path, view: int) -> None:
    """A process killed while it writes a view releases the lock, and the same command completes its work."""
    update(folder, FIRST)
    command = [
        sys.executable,
        "-m",
        "features.refresh",
        "--schema",
        "data/schema.json",
        "--features",
        FEATURES,
        "--online",
        ONLINE,
        "--as-of",
        f"{FIRST + DAY:%Y-%m-%dT%H:%M}",
        "--out",
        OUT,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        lines = (line for line in process.stdout if line.startswith("Materializing"))
        for _ in range(view):
            next(lines)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    update(folder, FIRST + DAY)
    assert stored(folder / ONLINE) == materialized(folder, FIRST + DAY, tmp_path)


def test_a_locked_store_is_unavailable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another refresh or another writer: an error with its own exit status and the reason; afterwards it works.

    The report of an earlier run is gone: nobody takes it for that of the run that failed.
    """
    update(folder, FIRST)
    assert (folder / OUT / "refresh.json").exists()
    with (state_dir(folder / ONLINE) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match="another refresh is at work"):
            update(folder, FIRST + DAY)
    assert not [name for name in ("refresh.json", "check.json") if (folder / OUT / name).exists()]
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0.1))
    with contextlib.closing(sqlite3.connect(folder / ONLINE)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailableError, match="another process writes to it"):
            update(folder, FIRST + DAY)
    assert StoreUnavailableError.exit_status == LOCKED
    assert update(folder, FIRST + DAY)["skipped"] is None


def test_a_full_disk_is_an_error_and_the_state_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without space for another page: an error; watermark and item snapshot stay, and with space it works again."""
    update(folder, FIRST)
    before, items = (
        Watermark.read(state_dir(folder / ONLINE) / WATERMARK),
        item_snapshot_path(folder / ONLINE).read_bytes(),
    )

    def without_room(*values: Any, **named: Any) -> Any:
        store = open_store(*values, **named)
        connection = store._get_provider().online_store._get_conn(store.config)
        connection.execute("pragma max_page_count = 1")  # SQLite raises it to the file's current size
        return store

    with monkeypatch.context() as patch:
        patch.setattr(online_store, "open_store", without_room)
        with pytest.raises(StoreError, match=r"(?s)online.db is full: .* view \w+, found "):
            update(folder, LAST)
    after = Watermark.read(state_dir(folder / ONLINE) / WATERMARK)
    assert (after.views, after.begun) == (before.views, LAST)
    assert item_snapshot_path(folder / ONLINE).read_bytes() == items
    assert update(folder, LAST)["skipped"] is None


def test_damage_before_the_overlap_is_repaired(folder: Path, tmp_path: Path) -> None:
    """The check against the offline store detects a wrong value outside the overlap; the store is rewritten, once."""
    update(folder, LAST)
    with contextlib.closing(sqlite3.connect(folder / ONLINE)) as connection, connection:
        connection.execute("delete from hinet_item where feature_name = 'price'")
    report = update(folder, LAST + DAY * 5)
    assert json.loads((folder / OUT / "check.json").read_text())["run"] == report["run"]
    assert (report["again"], report["whole"]) == (True, True)
    assert stored(folder / ONLINE) == materialized(folder, LAST + DAY * 5, tmp_path)
    assert json.loads((folder / OUT / "check.json").read_text())["passed"]


def test_a_difference_that_stays_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole rewrite does not help, it fails with what differs and what to do, and the watermark stays."""
    update(folder, FIRST)
    monkeypatch.setattr(quality, "check_online", functools.partial(check_spoiled_store, quality.check_online))
    with pytest.raises(ValidationError, match=r"(?s)item: online value differs.*online.db.written, then run it again"):
        update(folder, FIRST + DAY)
    assert Watermark.read(state_dir(folder / ONLINE) / WATERMARK).views == {}


def check_spoiled_store(check: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """The check, after another process has written to the store."""
    with contextlib.closing(sqlite3.connect(ONLINE)) as connection, connection:
        connection.execute("update hinet_item set value = x'' where feature_name = 'price'")
    return check(*values, **named)
