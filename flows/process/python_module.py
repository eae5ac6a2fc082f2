"""A module of the project as a process of a flow: its lines in the run's log, its reason where it stops."""

import shlex
import sys
from pathlib import Path

from prefect.logging import get_run_logger

from flows.process.child_process import run_process


class CommandError(Exception):
    """A command stopped: why, in one line, and the command to look closer in the next. `status` is its exit status."""

    def __init__(self, status: int, lines: list[str], module: str, options: dict[str, str]) -> None:
        self.status = status
        super().__init__(f"{cause(lines)}\nlook closer: {shlex.join(['python', '-m', module, *words(options)])}")


async def run_module(module: str, options: dict[str, str], *, good: tuple[int, ...] = (0,)) -> int:
    """Run `python -m module` with `options` in the root of the project; its exit status, which has to be a `good` one.

    Raises CommandError where it is another.
    """
    logger, lines = get_run_logger(), list[str]()

    def keep(line: str) -> None:
        lines.append(line)
        logger.info(line)

    status = await run_process([sys.executable, "-m", module, *words(options)], cwd=Path(), log=keep)
    if status not in good:
        raise CommandError(status, lines, module, options)
    return status


def words(options: dict[str, str]) -> list[str]:
    """`options` as words of a command line."""
    return [word for pair in options.items() for word in pair]


def cause(lines: list[str]) -> str:
    """Why a module stopped: that line and the one that goes on about it; else its last one, that of a traceback."""
    places = [place for place, line in enumerate(lines) if " stopped: " in line]
    if places:
        return " ".join(lines[places[-1] : places[-1] + 2])
    return lines[-1] if lines else "it ended without a word"
