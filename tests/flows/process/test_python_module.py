"""A module as a process of a flow: its exit status, and an error with the command to look closer."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flows.process import python_module
from flows.process.python_module import CommandError, run_module
from flows.process.reported import ProcessResult
from tests.support.stub_modules import Stub, stub_modules

pytestmark = pytest.mark.unit


def test_an_unexpected_status_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that a shell would split are quoted, so that a person can run the line; others pass as they are."""
    commands: list[list[str]] = []
    stubs = stub_modules(Stub(status=2, error="no"), commands=commands)
    monkeypatch.setattr(python_module, "run_reported", stubs)
    monkeypatch.setattr(python_module, "get_run_logger", SilentLogger)

    def run(**named: Any) -> ProcessResult:
        return asyncio.run(run_module("x", {"--current": "a b/*.parquet"}, **named))

    assert run(expected=(0, 2)).status == 2
    with pytest.raises(
        CommandError, match=r"^x stopped: no\nlook closer: python -m x --current 'a b/\*.parquet'$"
    ) as error:
        run()
    assert error.value.status == 2
    assert [Path(name).name.startswith("python") for name, *_ in commands] == [True, True]


class SilentLogger:
    """A logger that writes nothing."""

    def info(self, line: str) -> None:
        """Nothing."""
