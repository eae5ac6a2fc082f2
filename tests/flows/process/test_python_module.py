"""A module as a process of a flow: what it says goes to the log, and why it stopped is one line."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.process import python_module
from flows.process.python_module import CommandError, cause, run_module
from tests.support.played_processes import played


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["reading", "features.x stopped: no rows"], "features.x stopped: no rows"),
        (
            ["features.x stopped: the gate is closed.", "item: price", "Report"],
            "features.x stopped: the gate is closed. item: price",
        ),
        (["Traceback", "  File ...", "KeyError: 'price'"], "KeyError: 'price'"),
        ([], "it ended without a word"),
    ],
)
def test_the_cause_is_one_line(lines: list[str], why: str) -> None:
    """What a stage says of itself, and what that goes on about; of a fault of ours the end of the traceback."""
    assert cause(lines) == why


def test_a_status_that_is_not_good_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that a shell would split are quoted, so that a person can run the line; others pass as they are."""
    commands: list[list[str]] = []
    monkeypatch.setattr(python_module, "run_process", played((2, ["x stopped: no"], {}), commands=commands))
    monkeypatch.setattr(python_module, "get_run_logger", Silent)
    run: Callable[..., int] = lambda **named: asyncio.run(run_module("x", {"--current": "a b/*.parquet"}, **named))  # noqa: E731
    assert run(good=(0, 2)) == 2
    with pytest.raises(
        CommandError, match=r"^x stopped: no\nlook closer: python -m x --current 'a b/\*.parquet'$"
    ) as error:
        run()
    assert error.value.status == 2
    assert [Path(name).name.startswith("python") for name, *_ in commands] == [True, True]


class Silent:
    """A log that nobody reads."""

    def info(self, line: str) -> None:
        """Nothing."""
