"""A command as a process of its own: its lines to a log while it runs, nothing of it left when it is over."""

import asyncio
import contextlib
import contextvars
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from flows.process.guard import GRACE

GUARD = Path(__file__).with_name("guard.py").resolve()
PROGRESS_SECONDS = 5.0  # a bar that redraws itself is told this often
LONGEST = 1 << 16  # bytes without an end of line that are told as one
LINE_ENDS = re.compile(rb"(?<=\n)|(?<=\r)(?=[^\n])")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Log = Callable[[str], None]


async def run_process(command: list[str], *, cwd: Path, log: Log) -> int:
    """Run `command` in `cwd`, hand each line of its output to `log`, return its exit status (128 + n: signal n).

    It has a session of its own, and its whole process group is ended (SIGINT, SIGKILL after a few seconds) when the
    caller is cancelled or times out, when the command ends and leaves something behind, and when this process dies.
    """
    with subprocess.Popen(
        [sys.executable, "-IS", os.fspath(GUARD), *command],
        cwd=cwd,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as guard:
        assert guard.stdout
        context = contextvars.copy_context()  # the run that the lines belong to
        reader = threading.Thread(target=context.run, args=(_tell, guard.stdout, log), daemon=True)
        reader.start()
        try:
            while (status := guard.poll()) is None:
                await asyncio.sleep(0.03)
        except BaseException:
            _end_kindly(guard)
            raise
        finally:
            _signal_group(guard, signal.SIGKILL)  # what was left behind would write on, and keep the pipe open
            reader.join(GRACE)
    return status if status >= 0 else 128 - status


def _end_kindly(guard: subprocess.Popen[bytes]) -> None:
    """Ask and wait. Blocks: a cancelled task is cancelled again at each await, and must not leave before the end."""
    _signal_group(guard, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        guard.wait(GRACE)


def _signal_group(guard: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, number)


def _tell(stream: IO[bytes], log: Log) -> None:
    """Each line once; of a line that is written over and over (carriage returns), its state every few seconds."""
    rest, told = b"", float("-inf")
    while chunk := os.read(stream.fileno(), LONGEST):
        *lines, rest = LINE_ENDS.split(rest + chunk)
        if len(rest) >= LONGEST:
            lines, rest = [*lines, rest], b""
        for line in lines:
            text, passing = _text(line), line.endswith(b"\r")
            if text and not (passing and time.monotonic() - told < PROGRESS_SECONDS):
                log(text)
                told = time.monotonic() if passing else told
    if text := _text(rest):
        log(text)


def _text(line: bytes) -> str:
    return ESCAPES.sub("", line.decode(errors="replace")).strip()
