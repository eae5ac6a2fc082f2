"""The lock of a workspace: one run at a time, the others wait. The kernel holds it, so that a kill -9 releases it."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

from common.files import exclusive_lock, write_text
from common.paths import FLOWS
from flows.process.child_process import Log

LOCK, HOLDER = FLOWS / "lock", FLOWS / "lock.holder"  # in the current folder, which is the workspace
LOG_SECONDS = 60.0  # between two log lines of a run that waits


@contextlib.asynccontextmanager
async def workspace_lock(*, log: Log) -> AsyncIterator[None]:
    """Hold the workspace (the current folder); wait for the process that holds it and name it in `log`. Do not nest."""
    with contextlib.ExitStack() as held:
        logged_at = float("-inf")
        while not _acquire(held):
            if time.monotonic() - logged_at > LOG_SECONDS:
                log(f"waits until {_holder()} is done here")
                logged_at = time.monotonic()
            await asyncio.sleep(0.5)
        write_text(HOLDER, str(os.getpid()))
        yield


def _acquire(held: contextlib.ExitStack) -> bool:
    try:
        held.enter_context(exclusive_lock(LOCK))
    except BlockingIOError:
        return False
    return True


def _holder() -> str:
    """The process that holds the lock; "another run" where the file still names one that has ended."""
    try:
        process = int(HOLDER.read_text())
        os.kill(process, 0)
    except (OSError, ValueError, OverflowError):
        return "another run"
    return f"process {process}"
