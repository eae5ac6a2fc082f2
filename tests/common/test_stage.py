"""A stage on the command line: one clean sentence when it fails, a traceback when it is our fault."""

import os
import subprocess
import sys

import pytest

from common import stage
from common.paths import ROOT

SCRIPT = """
from pathlib import Path
import stage
from errors import SourceError
def work(*, out: Path) -> None:
    "Does some work."
    if out.name == "bad":
        raise SourceError("no archive: put it there")
    if out.name == "fault":
        raise ZeroDivisionError
    print("wrote", out)
stage.run(work)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The stage above as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_a_stage_ends_with_its_time_and_memory() -> None:
    """Its own output comes first, then seconds and peak memory."""
    done = run("--out", "somewhere")
    assert done.returncode == 0
    assert done.stdout.startswith("wrote somewhere")
    assert "peak memory" in done.stdout


def test_an_expected_failure_is_one_sentence_and_status_one() -> None:
    """A PipelineError is its message, without a traceback."""
    done = run("--out", "bad")
    assert done.returncode == 1
    assert "stopped: no archive: put it there" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    """Anything else shows where it happened."""
    done = run("--out", "fault")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_a_wrong_argument_is_refused() -> None:
    """A stage without its path says which one is missing."""
    done = run()
    assert done.returncode != 0
    assert "--out" in done.stdout + done.stderr


@pytest.mark.parametrize(("asked", "found"), [("1", 1), ("1000", None), ("", None), ("0", None), ("two", None)])
def test_threads_are_the_cores_unless_fewer_are_asked_for(
    asked: str, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OMP_NUM_THREADS lowers the number of threads; more than there are cores, or no number, changes nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert stage.threads() == (found or len(os.sched_getaffinity(0)))
