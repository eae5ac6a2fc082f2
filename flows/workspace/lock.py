"""One run at a time in a workspace: the others wait. The kernel holds the lock, so a kill -9 gives it back."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TextIO

from flows.process.child_process import Log

FOLDER = Path("artifacts/flows")  # in a workspace, which is the current folder: its lock, and what its flows have done
TELL_SECONDS = 60.0


@contextlib.asynccontextmanager
async def alone(*, log: Log) -> AsyncIterator[None]:
    """Hold the workspace (the current folder); wait for whoever holds it, telling `log` for whom. Do not nest."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("a+") as file:  # closing it gives the lock back
        await _wait_for(file, log)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


async def _wait_for(file: TextIO, log: Log) -> None:
    told = float("-inf")
    while not _locked(file):
        if time.monotonic() - told > TELL_SECONDS:
            file.seek(0)
            log(f"waits until {file.read() or 'another run'} is done here")
            told = time.monotonic()
        await asyncio.sleep(0.5)


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
