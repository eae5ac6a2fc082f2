"""The release of the model that was just made, as a flow: `python -m serving.release`, its verdict as an artifact.

    python -m flows.release --as-of 2026-01-18

The gate and the way back are in serving/release.py, which needs no flow. A closed gate is no failure: the champion
stays.
"""

import argparse
import asyncio
import datetime
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows.dates import claim, finish
from flows.process import run_process
from flows.workspace import alone

OPEN, CLOSED = 0, 2  # exit statuses of serving.release


@flow(name="release")
async def release(
    as_of: datetime.date | None = None, again: bool = False, options: tuple[str, ...] = ()
) -> State:  # fmt: skip
    """Let the newest model challenge the champion as of a day (that of the schedule), once; `again`: once more.

    `options` are those of serving.release, such as another online store and the moment up to which it was filled.
    """
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    async with alone(log=get_run_logger().info):
        if not again and (done := claim("release", as_of)) != "run":
            told = f"{as_of} is done" if done == "done" else f"a date newer than {as_of} is done"
            return Completed(name="Skipped", message=told)
        found, told = await challenge(options)
        if found is None:
            return Failed(message=f"{told}\nlook closer: {' '.join(['python -m serving.release', *options])}")
        finish("release", as_of)
        return Completed(name="Released" if found["passed"] else "Closed", message=sentence(found))


@task(name="challenge", cache_policy=NO_CACHE)
async def challenge(options: tuple[str, ...] = ()) -> tuple[dict[str, Any] | None, str]:
    """Run the gate in the current folder, with `options` of serving.release: its verdict, or None and why not.

    The verdict is kept as an artifact.
    """
    log, lines = get_run_logger(), list[str]()

    def keep(line: str) -> None:
        lines.append(line)
        log.info(line)

    with TemporaryDirectory() as scratch:
        verdict = Path(scratch) / "verdict.json"
        command = [sys.executable, "-m", "serving.release", "--verdict", str(verdict), *options]
        status = await run_process(command, cwd=Path(), log=keep)
        if status not in (OPEN, CLOSED):
            return None, cause(lines)
        found = json.loads(verdict.read_text())
    await acreate_markdown_artifact(key="release", markdown=page(found), description="The verdict of the gate")
    return found, sentence(found)


def cause(lines: list[str]) -> str:
    """The line of a process that says why it stopped; else the last one, which is that of a traceback."""
    return ([line for line in lines if " stopped: " in line] or lines or ["it said nothing"])[-1]


def sentence(found: dict[str, Any]) -> str:
    """Who is champion now, or what closed the gate, in one line."""
    failed = [rule["sentence"] for rule in found["rules"] if not rule["passed"]]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{found['tag']} is not released: {failed[0]}{more}" if failed else f"{found['tag']} is the champion"


def page(found: dict[str, Any]) -> str:
    """The verdict as Markdown: every rule with its numbers, those that do not hold first."""
    ordered = sorted(found["rules"], key=lambda rule: rule["passed"])
    rules = "".join(f"- {'ok' if rule['passed'] else '**no**'}: {rule['sentence']}\n" for rule in ordered)
    return f"# Release {found['tag']}\n\nThe gate is **{'open' if found['passed'] else 'closed'}**.\n\n{rules}"


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.release", description=release.description)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="logical date, e.g. 2026-01-18")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    chosen = parser.parse_args()
    state: State = asyncio.run(release(as_of=chosen.as_of, again=chosen.again, return_state=True))  # type: ignore
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
