"""A command as a process of its own: its lines to a log while it runs, nothing of it left when it is over."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flows.guard import GRACE

GUARD = Path(__file__).with_name("guard.py").resolve()
PROGRESS_SECONDS = 5.0  # a bar that redraws itself is told this often
LONGEST = 1 << 16  # bytes without an end of line that are told as one
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Log = Callable[[str], None]


async def run_process(command: list[str], *, cwd: Path, log: Log) -> int:
    """Run `command` in `cwd`, hand each line of its output to `log`, return its exit status (128 + n: signal n).

    It has a session of its own, and its whole process group is ended (SIGINT, SIGKILL after a few seconds) when the
    caller is cancelled or times out, when the command ends and leaves something behind, and when this process dies.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-IS", os.fspath(GUARD), *command, cwd=cwd, start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout
    reading = asyncio.create_task(_tell(process.stdout, log))
    try:
        status = await process.wait()
    except BaseException:
        _end_kindly(process.pid)
        reading.cancel()
        raise
    _signal_group(process.pid, signal.SIGKILL)  # what it left behind would keep the pipe open, and write on
    await reading
    return status if status >= 0 else 128 - status


def _end_kindly(group: int) -> None:
    """Ask, wait, kill. Blocks: a cancelled task is cancelled again at each await, and must not leave before the end."""
    _signal_group(group, signal.SIGINT)
    last = time.monotonic() + GRACE
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < last and not os.waitid(os.P_PID, group, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.02)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


async def _tell(stream: asyncio.StreamReader, log: Log) -> None:
    """Each line once; of a line that is written over and over (carriage returns), its state every few seconds."""
    rest, told = b"", 0.0
    while chunk := await stream.read(LONGEST):
        *parts, rest = re.split(rb"(?<=\n)|(?<=\r)(?=[^\n])", rest + chunk)
        for part in [*parts, *_whole(rest)]:
            unfinished = part.endswith(b"\r")
            if unfinished and time.monotonic() - told < PROGRESS_SECONDS:
                continue
            told = time.monotonic() if unfinished else told
            _tell_line(part, log)
        rest = b"" if _whole(rest) else rest
    _tell_line(rest, log)


def _whole(rest: bytes) -> list[bytes]:
    return [rest] if len(rest) >= LONGEST else []


def _tell_line(line: bytes, log: Log) -> None:
    if text := ESCAPES.sub("", line.decode(errors="replace")).strip():
        log(text)
