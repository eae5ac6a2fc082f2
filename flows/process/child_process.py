"""A command in its own process group: its output goes to a log line by line, and no process outlives the call."""

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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from flows.process.guard import GRACE_SECONDS

GUARD = Path(__file__).with_name("guard.py").resolve()
PROGRESS_SECONDS = 5.0  # between two log lines of a progress bar
LONGEST_LINE = 1 << 16  # bytes; a longer line is cut into parts
LINE_ENDS = re.compile(rb"(?<=\n)|(?<=\r)(?=[^\n])")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

Log = Callable[[str], None]


async def run_process(command: list[str], *, cwd: Path, log: Log, environment: Mapping[str, str] | None = None) -> int:
    """Run `command` in `cwd`, pass each line of its output to `log`, return its exit status (128 + n: signal n).

    `environment` is added to that of this process. The command has its own session, and its whole process group
    is ended (SIGINT, SIGKILL after a few seconds) when the caller is cancelled or times out, when the command ends and
    leaves processes behind, and when this process dies.
    """
    with subprocess.Popen(
        [sys.executable, "-IS", os.fspath(GUARD), *command],
        cwd=cwd,
        start_new_session=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as guard:
        assert guard.stdout
        context = contextvars.copy_context()  # the flow run to which the log lines belong
        reader = threading.Thread(target=context.run, args=(_log_lines, guard.stdout, log), daemon=True)
        reader.start()
        try:
            while (status := guard.poll()) is None:
                await asyncio.sleep(0.03)
        except BaseException:
            _interrupt(guard)
            raise
        finally:
            _signal_group(guard, signal.SIGKILL)  # what was left behind would write on, and keep the pipe open
            reader.join(GRACE_SECONDS)
    return status if status >= 0 else 128 - status


def _interrupt(guard: subprocess.Popen[bytes]) -> None:
    """Send SIGINT and wait. Blocks: a cancelled task is cancelled again at each await, and must not leave before."""
    _signal_group(guard, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        guard.wait(GRACE_SECONDS)


def _signal_group(guard: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(guard.pid, number)


def _log_lines(stream: IO[bytes], log: Log) -> None:
    """Log each line once; of a line that is written over and over (carriage returns), its state every few seconds."""
    rest, logged_at = b"", float("-inf")
    while chunk := os.read(stream.fileno(), LONGEST_LINE):
        *lines, rest = LINE_ENDS.split(rest + chunk)
        if len(rest) >= LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            text, is_progress = _text(line), line.endswith(b"\r")
            if text and not (is_progress and time.monotonic() - logged_at < PROGRESS_SECONDS):
                log(text)
                logged_at = time.monotonic() if is_progress else logged_at
    if text := _text(rest):
        log(text)


def _text(line: bytes) -> str:
    return ESCAPES.sub("", line.decode(errors="replace")).strip()
