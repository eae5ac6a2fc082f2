"""The pipeline as a flow: every stage that is stale, then the gate of a release. `python -m flows.pipeline` runs it.

The store in use, if there is one, is brought up before the gate looks at it.
"""

import argparse
import asyncio
import datetime
import sys

from prefect import flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.materialize import utc
from flows.ops.notify import tell, tell_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError
from flows.release import challenge, sentence, store_in_use
from flows.stages.run import Outcome, run_stages
from flows.workspace.dates import finish, skipped
from flows.workspace.lock import alone


@flow(name="pipeline", flow_run_name="pipeline", on_failure=[tell_failure])
async def pipeline(as_of: datetime.date | None = None, again: bool = False, release: bool = True) -> State:
    """Bring everything up to date as of a day (the one that the run was scheduled for), once; `again`: once more.

    `release`: the model challenges the champion then.
    """
    scheduled = utc(runtime.flow_run.scheduled_start_time)
    moment = scheduled if as_of is None else datetime.datetime.combine(as_of, datetime.time(), datetime.UTC)
    as_of = moment.date()
    async with alone(log=get_run_logger().info):
        if not again and (done := skipped("pipeline", as_of)):
            return done
        try:
            state = await bring_up(moment, release=release)
        finally:
            await write_index()
        if not state.is_failed():
            finish("pipeline", as_of)
        return state


async def bring_up(moment: datetime.datetime, *, release: bool) -> State:
    """Every stage that is stale, then the gate."""
    outcomes = await run_stages()
    if failed := [outcome for outcome in outcomes if not outcome.good]:
        return Failed(message=closer(failed))
    return await release_newest(moment, summary(outcomes)) if release else Completed(message=summary(outcomes))


async def release_newest(moment: datetime.datetime, before: str) -> State:
    """Let the model that was just made challenge the champion, on the store in use as of `moment` if there is one.

    `before` is what is to be said of the stages.
    """
    try:
        found = await challenge(await store_in_use(moment))
    except CommandError as error:
        return Failed(message=str(error))
    if not found["passed"]:
        await tell("release: closed", sentence(found))
    return Completed(name=None if found["passed"] else "Closed", message=f"{before}; {sentence(found)}")


def closer(failed: list[Outcome]) -> str:
    """The cause in one line, and the command to look closer."""
    first = next(outcome for outcome in failed if outcome.cause)
    return f"{first.cause}\nlook closer: dvc repro --single-item {first.stage}"


def summary(outcomes: list[Outcome]) -> str:
    """How many stages ran, and how many there was nothing to do for."""
    states = [outcome.state for outcome in outcomes]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def main() -> int:
    """Run the pipeline from the command line; 1 where a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=pipeline.description)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="logical date, e.g. 2026-01-18")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    parser.add_argument("--no-release", dest="release", action="store_false", help="the model challenges nobody")
    state: State = asyncio.run(pipeline(**vars(parser.parse_args()), return_state=True))  # type: ignore[arg-type]
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
