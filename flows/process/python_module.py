"""A module of the project as a process of a flow: its output goes to the log of the run."""

import shlex
import sys
from collections.abc import Collection

from prefect.logging import get_run_logger

from common.exit_status import DONE
from flows.process.reported import ProcessResult, cause_of, run_reported


class CommandError(Exception):
    """A command failed: the cause in one line, the command to look closer in the next. `status`: its exit status."""

    def __init__(self, cause: str, status: int, module: str, options: dict[str, str]) -> None:
        self.status = status
        super().__init__(f"{cause}\nlook closer: {shlex.join(['python', '-m', module, *words(options)])}")


async def run_module(module: str, options: dict[str, str], *, expected: Collection[int] = (DONE,)) -> ProcessResult:
    """Run `python -m module` with `options` in the current folder and return how it ended.

    Raises CommandError where the exit status is not an `expected` one. What the module wrote is read by
    flows.process.document alone.
    """
    result = await run_reported([sys.executable, "-m", module, *words(options)], log=get_run_logger().info)
    if result.status not in expected:
        raise CommandError(cause_of(module, result), result.status, module, options)
    return result


def words(options: dict[str, str]) -> list[str]:
    """`options` as the words of a command line."""
    return [word for pair in options.items() for word in pair]
