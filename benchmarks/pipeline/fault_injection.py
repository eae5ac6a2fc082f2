"""The faults of the chaos benchmark: processes of a workspace to kill, a disk to fill, an online store to lock."""

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil

from benchmarks.pipeline.stack import Stack

PACKAGES = ("features.", "models.", "serving.", "monitoring.")  # whose modules are processes of a flow
TARGETS = ("stage", "worker", "server", "flow", "worker and flow")
LARGEST_DISK = 4 << 30  # bytes: a larger file system is not filled


def module_of(process: psutil.Process) -> str:
    """The module of the project, or the stage of the tiny graph, that a process runs; "" for another process."""
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return ""
    if words[:2] == ["sh", "stage.sh"]:
        return words[2]
    return words[2] if len(words) > 2 and words[1] == "-m" and words[2].startswith(PACKAGES) else ""


def processes(stack: Stack) -> list[psutil.Process]:
    """The processes whose current folder is the workspace."""
    return [process for process in psutil.process_iter() if _runs_in(process, stack.workspace)]


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.cwd() == str(folder))
    except psutil.Error:  # it ended meanwhile, or it is another user's
        return False


def running(stack: Stack, module: str | None = None) -> list[psutil.Process]:
    """The processes in the workspace that run `module`, or any module of the project."""
    return [process for process in processes(stack) if (name := module_of(process)) and module in (None, name)]


def modules(stack: Stack) -> str:
    """The names of the modules that run in the workspace."""
    return ", ".join(sorted({name for name in map(module_of, processes(stack)) if name}))


def targets(stack: Stack, name: str) -> list[psutil.Process]:
    """The processes of one of the TARGETS."""
    if name == "stage":
        return running(stack)
    if name == "server":
        server = psutil.Process(stack.processes["server"].process.pid)
        return [server, *server.children(recursive=True)]
    flows = [process for process in processes(stack) if "prefect.engine" in " ".join(process.cmdline())]
    worker = psutil.Process(stack.processes["worker"].process.pid)
    return {"worker": [worker], "flow": flows, "worker and flow": [worker, *flows] if flows else []}[name]


def fill_disk(path: Path, *, leaving: int = 0) -> None:
    """Make a file of all free bytes but `leaving`; raises SystemExit on a large file system."""
    disk = os.statvfs(path.parent)
    if disk.f_blocks * disk.f_frsize > LARGEST_DISK:
        raise SystemExit(f"{path.parent} is on a file system of more than 4 GiB, which is not filled: see --folder")
    free = disk.f_bavail * disk.f_frsize - leaving
    with path.open("ab", buffering=0) as file, suppress(OSError):  # full: another process wrote meanwhile
        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, max(free, 1))
        while not leaving:
            file.write(b"0" * 4096)


def lock_store(store: Path, seconds: float) -> None:
    """Hold the write lock of a SQLite file for some seconds."""
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("begin immediate")
        time.sleep(seconds)
        connection.rollback()
