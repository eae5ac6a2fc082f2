"""DVC reproduces one stage: what became of it, as typed values of DVC's API, for every way in which it can end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.stages import reproduce as script
from flows.stages.reproduce import Reproduction, read_reproduction, reproduce
from tests.support.flow_harness import write_repository

pytestmark = pytest.mark.process


def test_a_stage_runs_is_up_to_date_and_is_restored(workspace: Path) -> None:
    """In that order; restored from the run cache where its output is gone."""
    write_repository(workspace, log={"cmd": "cat raw > log", "deps": ["raw"], "outs": ["log"]})
    (workspace / "raw").write_text("words\n")
    assert reproduce("log") == Reproduction(state="ran")
    assert reproduce("log") == Reproduction(state="up to date")
    (workspace / "log").unlink()
    assert reproduce("log") == Reproduction(state="restored")
    assert (workspace / "log").read_text() == "words\n"


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_a_command_that_fails_has_its_exit_status(workspace: Path, command: str, status: int) -> None:
    """With DVC's reason; a signal is a negative status."""
    write_repository(workspace, log={"cmd": command, "outs": ["log"]})
    result = reproduce("log")
    assert (result.state, result.command_status) == ("failed", status)
    assert f"exited with {status}" in str(result.error)


def test_a_failure_of_dvc_has_its_reason(workspace: Path) -> None:
    """A dependency that is missing, a stage that does not exist: no command has failed."""
    write_repository(workspace, log={"cmd": "touch log", "deps": ["absent"], "outs": ["log"]})
    for name, reason in (("log", "absent"), ("unknown", "Stage 'unknown' not found")):
        result = reproduce(name)
        assert (result.state, result.command_status) == ("failed", None)
        assert reason in str(result.error)


def test_a_stage_whose_files_another_dvc_process_writes_is_busy(workspace: Path) -> None:
    """The error names the other process."""
    write_repository(workspace, log={"cmd": "touch begun; while test -e begun; do sleep 0.1; done", "outs": ["log"]})
    other = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "log"], stdout=subprocess.DEVNULL)
    try:
        while not (workspace / "begun").exists():
            assert other.poll() is None
        result = reproduce("log")
    finally:
        (workspace / "begun").unlink()
        other.wait()
    assert result.state == "busy"
    assert f"PID {other.pid}" in str(result.error)


def test_the_script_writes_the_result_as_json(workspace: Path) -> None:
    """In any folder; without the file, nothing is known of the stage."""
    write_repository(workspace, log={"cmd": "touch log", "outs": ["log"]}, bad={"cmd": "exit 3", "outs": ["bad"]})
    path = workspace / "result.json"
    assert read_reproduction(path) is None
    for name, state, status in (("log", "ran", 0), ("bad", "failed", 1)):
        command = [sys.executable, "-P", script.__file__, name, str(path)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == status
        assert json.loads(path.read_text())["state"] == state
        result = read_reproduction(path)
        assert result is not None
        assert result.state == state
