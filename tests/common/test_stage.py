"""A stage on the command line: one clean sentence when it fails, a traceback when it is our fault, a report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import stage
from common.paths import ROOT
from common.stage_report import VARIABLE, read_report

pytestmark = pytest.mark.process

SCRIPT = """
from pathlib import Path
from common import stage
from common.errors import SourceError, StoreError
class Locked(StoreError):
    exit_status = 75
def work(*, out: Path) -> None:
    "Does some work."
    if out.name == "bad":
        raise SourceError("no archive: put it there")
    if out.name == "locked":
        raise Locked("the store is locked")
    if out.name == "fault":
        raise ZeroDivisionError
    print("wrote", out)
stage.run(work)
"""


def run(*arguments: str, report: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The stage above as a process; `report` names the file of its StageReport."""
    environment = os.environ | ({VARIABLE: str(report)} if report else {})
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


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


def test_an_error_with_its_own_exit_status_ends_with_it(tmp_path: Path) -> None:
    """Such as that of a locked store: the caller sees that it may try again."""
    done = run("--out", "locked", report=tmp_path / "report")
    report = read_report(tmp_path / "report")
    assert done.returncode == 75
    assert "stopped: the store is locked" in done.stderr
    assert report is not None
    assert (report.status, report.error) == (75, "the store is locked")


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    """Anything else shows where it happened."""
    done = run("--out", "fault")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" in done.stderr


def test_a_wrong_argument_is_refused() -> None:
    """A stage without its path says which one is missing; the status is that of wrong usage, which is no verdict's."""
    done = run()
    assert done.returncode == 2
    assert "--out" in done.stdout + done.stderr


def test_a_stage_reports_its_end_to_the_flow_that_started_it(tmp_path: Path) -> None:
    """Status, error, seconds and memory, as JSON; a fault with a traceback leaves no report."""
    run("--out", "somewhere", report=tmp_path / "done")
    done = read_report(tmp_path / "done")
    assert done is not None
    assert (done.status, done.error) == (0, None)
    assert done.seconds >= 0
    assert done.peak_megabytes > 1
    run("--out", "bad", report=tmp_path / "failed")
    failed = read_report(tmp_path / "failed")
    assert failed is not None
    assert (failed.status, failed.error) == (1, "no archive: put it there")
    run("--out", "fault", report=tmp_path / "fault")
    assert read_report(tmp_path / "fault") is None


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("1000", None), ("", None), ("0", None), ("two", None)])
def test_threads_are_the_cores_unless_limited(
    limit: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OMP_NUM_THREADS lowers the number of threads; more than there are cores, or no number, changes nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert stage.threads() == (expected or len(os.sched_getaffinity(0)))


NESTED = """
import os, subprocess, sys
from pathlib import Path
from common import stage
def work(*, inner: Path) -> None:
    "Starts another stage, and is killed."
    subprocess.run([sys.executable, str(inner), "--out", "somewhere"], check=True)
    os.kill(os.getpid(), 9)
stage.run(work)
"""


def test_the_report_of_another_stage_is_not_that_of_this_one(tmp_path: Path) -> None:
    """A stage that it starts writes none, and one of an earlier process at the same path is removed."""
    inner, report = tmp_path / "inner.py", tmp_path / "report"
    inner.write_text(SCRIPT)
    report.write_text(json.dumps({"module": "x", "status": 0, "error": None, "seconds": 1, "peak_megabytes": 1}))
    assert read_report(report) is not None
    environment = os.environ | {VARIABLE: str(report), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NESTED, "--inner", str(inner)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert "wrote somewhere" in done.stdout, done.stderr
    assert done.returncode == -9
    assert read_report(report) is None


@given(
    st.binary(max_size=200) | st.integers(0, 80).map(lambda size: b'{"module": "x", "status": 0, "error": null}'[:size])
)
def test_half_a_report_is_none(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a process that was killed has left."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    path.write_bytes(content)
    assert read_report(path) is None
