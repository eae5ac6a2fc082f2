"""The pipeline as a flow: every stage that is stale, then what became of them. `python -m flows.pipeline` runs it."""

import argparse
import asyncio
import datetime
import sys

from prefect import flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.dates import claim, finish
from flows.stages import Outcome, run_stages
from flows.workspace import alone

SKIPPED = {"done": "{} is done", "newer": "a date newer than {} is done"}


@flow(name="pipeline", flow_run_name="pipeline")
async def pipeline(as_of: datetime.date | None = None, again: bool = False) -> State:
    """Bring everything up to date as of a day (the one that the run was scheduled for), once; `again`: once more."""
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    async with alone(log=get_run_logger().info):
        if not again and (done := claim("pipeline", as_of)) != "run":
            return Completed(
                name="Skipped", message=f"{as_of} is done" if done == "done" else f"newer than {as_of} done"
            )
        outcomes = await run_stages()
        if failed := [outcome for outcome in outcomes if not outcome.good]:
            return Failed(message=closer(failed))
        finish("pipeline", as_of)
        return Completed(message=summary(outcomes))


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
    chosen = parser.parse_args()
    state: State = asyncio.run(pipeline(as_of=chosen.as_of, again=chosen.again, return_state=True))  # type: ignore
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
