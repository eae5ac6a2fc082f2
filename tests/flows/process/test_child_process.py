"""A command in its own process group: its lines while it runs, and no process of it when it is over."""

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

pytestmark = pytest.mark.process

NUMBERS = itertools.count(os.getpid() * 1000)


def output(script: str) -> tuple[int, list[str]]:
    """Exit status and lines of a shell script."""
    lines: list[str] = []
    return asyncio.run(run_process(["sh", "-c", script], cwd=Path(), log=lines.append)), lines


def test_lines_come_in_order_with_the_exit_status() -> None:
    """Both streams are one; empty lines and colours are left out."""
    status, lines = output(r"echo one; echo two >&2; echo; printf '\033[1mthree\033[0m'; exit 4")
    assert (status, lines) == (4, ["one", "two", "three"])


def test_lines_come_while_the_command_runs() -> None:
    """A line is logged when it is written, not at the end; Python's too, although it writes to a pipe."""
    times: list[float] = []
    script = "import time; print(1); time.sleep(1); print(2)"
    command = [sys.executable, "-c", script]
    asyncio.run(run_process(command, cwd=Path(), log=lambda _: times.append(time.monotonic())))
    assert times[1] - times[0] > 0.7


def test_the_command_gets_the_environment_of_the_caller_and_more() -> None:
    """Variables of this process, and those that the call adds."""
    lines: list[str] = []
    command = ["sh", "-c", "echo $HOME $ADDED"]
    asyncio.run(run_process(command, cwd=Path(), log=lines.append, environment={"ADDED": "more"}))
    assert lines == [f"{os.environ['HOME']} more"]


def test_a_signal_is_a_status() -> None:
    """128 + n, as a shell has it."""
    assert output("kill -9 $$")[0] == 137


def test_a_progress_bar_is_logged_now_and_then() -> None:
    """Of fifty states within a second, only the first and the last: the log is no terminal."""
    script = r"for i in $(seq 50); do printf '\r %s of 50' $i; sleep 0.01; done; echo; printf 'a\r\nb\r\n'"
    lines = output(script)[1]
    assert lines == ["1 of 50", "50 of 50", "a", "b"]


def test_a_line_without_an_end_is_cut() -> None:
    """A line that never ends does not fill the memory."""
    lines = output("head -c 200000 /dev/zero | tr '\\0' x")[1]
    assert len(lines) > 1
    assert sum(map(len, lines)) == 200_000


async def give_up(script: str) -> None:
    """Start a script, and cancel it after a second."""
    await asyncio.wait_for(run_process(["sh", "-c", script], cwd=Path(), log=print), 1)


def test_cancelling_ends_the_whole_group() -> None:
    """A timeout leaves neither the command nor its children; they have ended before the caller goes on."""
    seconds = str(next(NUMBERS))

    async def give_up() -> None:
        await asyncio.wait_for(
            run_process(["sh", "-c", f"sleep {seconds} & sleep {seconds}"], cwd=Path(), log=print), 1
        )

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert not running(seconds)


def test_a_command_that_ignores_sigint_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds after SIGINT."""
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.3)
    seconds = str(next(NUMBERS))
    with pytest.raises(TimeoutError):
        asyncio.run(give_up(f"trap '' INT; sleep {seconds}; :"))
    assert not running(seconds)


def test_the_children_of_a_killed_command_are_ended() -> None:
    """DVC killed with -9 leaves the stage behind, with the pipe open: the stage ends, too."""
    seconds = str(next(NUMBERS))
    started = time.monotonic()
    assert output(f"sleep {seconds} & kill -9 $$")[0] == 137
    assert not running(seconds)
    assert time.monotonic() - started < 5


PARENT = """
import asyncio, pathlib, sys
from flows.process.child_process import run_process
asyncio.run(run_process(["sh", "-c", f"echo up; sleep {sys.argv[1]}; :"], cwd=pathlib.Path(), log=print))
"""


def test_kill_9_of_the_caller_ends_the_command() -> None:
    """No orphan goes on writing next to the following run."""
    seconds = str(next(NUMBERS))
    command = [sys.executable, "-u", "-c", PARENT, seconds]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.communicate()
    last = time.monotonic() + 10
    while running(seconds) and time.monotonic() < last:
        time.sleep(0.05)
    assert not running(seconds)
