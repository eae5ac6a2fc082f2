"""One attempt at a stage: its cause where it fails, its peak memory where it ran."""

import asyncio
from pathlib import Path

import pytest

from flows.process.reported import ProcessResult
from flows.stages.attempt import Attempt, attempt
from flows.stages.reproduce import FAILED, RAN, Reproduction
from tests.support.flow_harness import report_command, write_repository
from tests.support.stub_modules import ended

COMMAND_FAILED = Reproduction(state=FAILED, error="failed to reproduce 'y': exited with 1", command_status=1)
COMMAND_KILLED = Reproduction(state=FAILED, error="failed to reproduce 'y': exited with -9", command_status=-9)
DVC_FAILED = Reproduction(state=FAILED, error="failed to reproduce 'y':\n missing data 'source': raw")
DVC_DIED = Reproduction(state=FAILED)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("reproduction", "process", "expected"),
    [
        (COMMAND_FAILED, ended("x.y", status=1, error="no archive"), "x.y stopped: no archive"),
        (COMMAND_FAILED, ProcessResult(status=1, last_line="KeyError: 'a'"), "KeyError: 'a'"),
        (COMMAND_FAILED, ProcessResult(status=1), "y failed without output"),
        (COMMAND_KILLED, ProcessResult(status=1, last_line="epoch 3"), "y was killed (signal 9)"),
        (DVC_FAILED, ProcessResult(status=1), "failed to reproduce 'y': missing data 'source': raw"),
        (DVC_DIED, ProcessResult(status=137, last_line="epoch 3"), "y was killed (signal 9)"),
        (DVC_DIED, ProcessResult(status=1, last_line="OSError: no space left"), "OSError: no space left"),
    ],
)
def test_the_cause_is_one_line(reproduction: Reproduction, process: ProcessResult, expected: str) -> None:
    """The error of the stage's report, that it was killed, DVC's reason, or the last line of the output."""
    cause = Attempt(name="y", reproduction=reproduction, process=process).cause
    assert cause.startswith(expected)
    assert "\n" not in cause


@pytest.mark.process
def test_a_stage_that_ran_has_the_peak_memory_of_its_report(workspace: Path) -> None:
    """From the stage through DVC to the flow; a command that writes no report has none."""
    write_repository(
        workspace,
        stage={"cmd": f"{report_command('a.log', megabytes=1234)}; touch out", "outs": ["out"]},
        command={"cmd": "touch other", "outs": ["other"]},
    )
    made = asyncio.run(attempt("stage", print))
    assert (made.reproduction.state, made.peak_memory) == (RAN, "1,234 MB")
    assert asyncio.run(attempt("command", print)).peak_memory is None


@pytest.mark.process
def test_the_reason_of_dvc_is_logged(workspace: Path) -> None:
    """The log of the run has it, next to the output of the stage."""
    write_repository(workspace, stage={"cmd": "echo words; exit 3", "outs": ["out"]})
    lines: list[str] = []
    made = asyncio.run(attempt("stage", lines.append))
    assert made.cause == "words"
    assert "words" in lines
    assert lines[-1] == "failed to reproduce 'stage': failed to run: echo words; exit 3, exited with 3"
