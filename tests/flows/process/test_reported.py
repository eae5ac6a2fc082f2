"""How a process ended: its exit status, its stage report, and the cause of a failure in one line."""

import asyncio
import sys

import pytest

from common.paths import ROOT
from flows.process.reported import ProcessResult, cause_of, run_reported
from tests.support.flow_harness import report_command
from tests.support.stub_modules import ended


@pytest.mark.unit
@pytest.mark.parametrize(
    ("result", "cause"),
    [
        (ended("features.x", status=1, error="no rows"), "features.x stopped: no rows"),
        (
            ended("features.x", status=1, error="the gate is closed.\nitem: price\nReport"),
            "features.x stopped: the gate is closed. item: price",
        ),
        (ProcessResult(status=1, last_line="KeyError: 'price'"), "KeyError: 'price'"),
        (ProcessResult(status=-9, last_line="epoch 3"), "x was killed (signal 9): did the machine run out of memory?"),
        (ProcessResult(status=137, last_line="epoch 3"), "x was killed (signal 9): did the machine run out of memory?"),
        (ProcessResult(status=1), "x failed without output"),
    ],
)
def test_the_cause_is_one_line(result: ProcessResult, cause: str) -> None:
    """The error of the report, two lines of it at most; else that it was killed, or the last line of the output."""
    assert cause_of("x", result) == cause


@pytest.mark.process
def test_the_report_of_a_stage_is_read_back() -> None:
    """With the exit status and the last line of the output; a command without a report has none."""
    lines: list[str] = []
    command = f"echo begins; {report_command('features.x', error='no rows')}; echo ends; exit 3"
    result = asyncio.run(run_reported(["sh", "-c", command], log=lines.append))
    assert result.report is not None
    assert (result.report.module, result.report.error) == ("features.x", "no rows")
    assert (result.status, result.last_line, lines) == (3, "ends", ["begins", "ends"])
    bare = asyncio.run(run_reported(["sh", "-c", "exit 4"], log=print))
    assert (bare.status, bare.report, bare.last_line) == (4, None, None)


STAGE = """
import sys; sys.path.insert(0, sys.argv.pop())
from common import stage
from common.errors import SourceError
def work() -> None:
    "Fails."
    raise SourceError("no archive: put it there")
stage.run(work)
"""


@pytest.mark.process
def test_the_error_of_a_stage_is_the_cause() -> None:
    """From common.stage.run to the message of the flow run, without a look at the output."""
    result = asyncio.run(run_reported([sys.executable, "-c", STAGE, str(ROOT)], log=lambda _: None))
    assert result.status == 1
    assert cause_of("x", result) == "stage stopped: no archive: put it there"
