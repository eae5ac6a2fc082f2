"""The release of the model that was just made, as a flow: `python -m release.promote`, its verdict as an artifact.

    python -m flows.release --as-of 2026-01-18

The gate and the way back are in release/promote.py, which needs no flow. A closed gate is no failure: the champion
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

from prefect import flow, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.materialize import ONLINE, WATERMARK, refresh
from flows.ops.notify import tell, tell_failure
from flows.process.python_module import CommandError, run_module
from flows.workspace.dates import finish, skipped
from flows.workspace.lock import alone

VERDICTS = (0, 2)  # exit statuses of release.promote: the gate is open, closed


@flow(name="release", flow_run_name="release", on_failure=[tell_failure])
async def release(
    as_of: datetime.date | None = None, again: bool = False, options: dict[str, str] | None = None
) -> State:
    """Let the newest model challenge the champion as of a day (that of the schedule), once; `again`: once more.

    `options` are those of release.promote, such as another online store and the moment up to which it was filled.
    """
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    try:
        async with alone(log=get_run_logger().info):
            if not again and (done := skipped("release", as_of)):
                return done
            found = await challenge(options or {})
    except CommandError as error:
        return Failed(message=str(error))
    if not found["passed"]:
        await tell("release: closed", sentence(found))
    finish("release", as_of)
    return Completed(name="Released" if found["passed"] else "Closed", message=sentence(found))


async def store_in_use(moment: datetime.datetime) -> dict[str, str]:
    """The online store that services read, brought up to `moment`: options of release.promote; none if there is none.

    Raises CommandError where it could not be brought up. Hold the workspace.
    """
    if not ONLINE.exists():
        return {}
    await refresh(moment, ONLINE)
    return as_it_is()


def as_it_is() -> dict[str, str]:
    """The store in use, and the moment up to which it was brought up, as options of release.promote."""
    views = json.loads(WATERMARK.read_text())["views"]
    return {"--online": str(ONLINE), "--moment": min(views.values())}


@task(cache_policy=NO_CACHE)
async def challenge(options: dict[str, str]) -> dict[str, Any]:
    """The verdict of the gate, which becomes an artifact; raises CommandError where nothing could be judged."""
    with TemporaryDirectory() as scratch:
        verdict = Path(scratch) / "verdict.json"
        await run_module("release.promote", options | {"--verdict": str(verdict)}, good=VERDICTS)
        found: dict[str, Any] = json.loads(verdict.read_text())
    await acreate_markdown_artifact(key="release", markdown=page(found), description="The verdict of the gate")
    return found


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
