"""A command as a process of its own: its lines while it runs, and nothing of it when it is over."""

import asyncio
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.paths import ROOT
from flows.process import child_process
from flows.process.child_process import run_process
from tests.support.flow_harness import running

NUMBERS = itertools.count(os.getpid() * 1000)


def told(script: str) -> tuple[int, list[str]]:
    """Exit status and lines of a shell script."""
    lines: list[str] = []
    return asyncio.run(run_process(["sh", "-c", script], cwd=Path(), log=lines.append)), lines


def test_lines_come_in_order_with_the_exit_status() -> None:
    """Both streams in one, empty lines and colours left out."""
    status, lines = told(r"echo one; echo two >&2; echo; printf '\033[1mthree\033[0m'; exit 4")
    assert (status, lines) == (4, ["one", "two", "three"])


def test_lines_come_while_the_command_runs() -> None:
    """A line is told when it is written, not at the end; Python's too, although it writes to a pipe."""
    moments: list[float] = []
    script = "import time; print(1); time.sleep(1); print(2)"
    command = [sys.executable, "-c", script]
    asyncio.run(run_process(command, cwd=Path(), log=lambda _: moments.append(time.monotonic())))
    assert moments[1] - moments[0] > 0.7


def test_a_signal_is_a_status() -> None:
    """128 + n, as a shell has it."""
    assert told("kill -9 $$")[0] == 137


def test_a_bar_that_redraws_itself_is_told_now_and_then() -> None:
    """Of fifty states within a second, the first and the last: the log is no terminal."""
    script = r"for i in $(seq 50); do printf '\r %s of 50' $i; sleep 0.01; done; echo; printf 'a\r\nb\r\n'"
    lines = told(script)[1]
    assert lines == ["1 of 50", "50 of 50", "a", "b"]


def test_a_line_without_an_end_is_cut() -> None:
    """What never ends does not fill the memory."""
    lines = told("head -c 200000 /dev/zero | tr '\\0' x")[1]
    assert len(lines) > 1
    assert sum(map(len, lines)) == 200_000


async def give_up(script: str) -> None:
    """Start a script, and lose patience after a second."""
    await asyncio.wait_for(run_process(["sh", "-c", script], cwd=Path(), log=print), 1)


def test_cancelling_ends_the_whole_group() -> None:
    """A timeout leaves neither the command nor its children; it is over before the caller goes on."""
    seconds = str(next(NUMBERS))

    async def give_up() -> None:
        await asyncio.wait_for(
            run_process(["sh", "-c", f"sleep {seconds} & sleep {seconds}"], cwd=Path(), log=print), 1
        )

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert not running(seconds)


def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT is asking; who ignores it has a few seconds."""
    monkeypatch.setattr(child_process, "GRACE", 0.3)
    seconds = str(next(NUMBERS))
    with pytest.raises(TimeoutError):
        asyncio.run(give_up(f"trap '' INT; sleep {seconds}; :"))
    assert not running(seconds)


def test_what_a_killed_command_leaves_is_ended() -> None:
    """DVC killed with -9 leaves the stage behind, with the pipe open: both end."""
    seconds = str(next(NUMBERS))
    started = time.monotonic()
    assert told(f"sleep {seconds} & kill -9 $$")[0] == 137
    assert not running(seconds)
    assert time.monotonic() - started < 5


ASKER = """
import asyncio, pathlib, sys
from flows.process.child_process import run_process
asyncio.run(run_process(["sh", "-c", f"echo up; sleep {sys.argv[1]}; :"], cwd=pathlib.Path(), log=print))
"""


def test_kill_9_of_the_caller_ends_the_command() -> None:
    """No orphan goes on writing beside the next run."""
    seconds = str(next(NUMBERS))
    command = [sys.executable, "-u", "-c", ASKER, seconds]
    asker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert asker.stdout
    assert asker.stdout.readline() == b"up\n"
    asker.kill()
    asker.communicate()
    last = time.monotonic() + 10
    while running(seconds) and time.monotonic() < last:
        time.sleep(0.05)
    assert not running(seconds)
