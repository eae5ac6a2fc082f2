"""The flow `pipeline`: every stage that is out of date, then the new model challenges the champion.

    python -m flows.pipeline --as-of 2026-01-18

The online store in use, if there is one, is refreshed before the challenge.
"""

import datetime
import sys
from typing import Annotated

from prefect import State, flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from common.errors import PipelineError
from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError
from flows.stages.run import failure_of, run_stages, summary
from flows.tasks.online_store import utc
from flows.tasks.promotion import challenge, notify_rejection, refreshed_store, sentence
from flows.tasks.training_start import is_full_fit, write_start
from flows.workspace.dates import mark_done, skipped
from flows.workspace.lock import workspace_lock


@flow(name="pipeline", flow_run_name="pipeline", on_failure=[notify_failure])
async def pipeline(
    as_of: datetime.date | None = None,
    again: bool = False,
    release: bool = True,
    full_fit_every: Annotated[int, Field(ge=1, le=366)] = 1,
) -> State:
    """Bring every stage up to date, then let the new model challenge the champion.

    Args:
        as_of: The logical date; None: the scheduled day. A date that is done is skipped.
        again: Run even if the date is done.
        release: Whether the new model challenges the champion.
        full_fit_every: Days between two trainings with new weights (7: on Sundays); the others begin in the champion.
    """
    scheduled = utc(runtime.flow_run.scheduled_start_time)
    timestamp = scheduled if as_of is None else datetime.datetime.combine(as_of, datetime.time(), datetime.UTC)
    as_of = timestamp.date()
    async with workspace_lock(log=get_run_logger().info):
        if not again and (done := skipped("pipeline", as_of)):
            return done
        try:
            state = await build(timestamp, release=release, full=is_full_fit(as_of, full_fit_every))
        finally:
            await write_index()
        if not state.is_failed():
            mark_done("pipeline", as_of)
        return state


async def build(as_of: datetime.datetime, *, release: bool, full: bool) -> State:
    """Run every stage that is out of date, then let the model challenge the champion where `release`.

    Where not `full` its training begins in the champion.
    """
    try:
        start = write_start(full=full)
    except PipelineError as error:
        return Failed(message=str(error))
    if start is not None:
        get_run_logger().info(f"the training begins in {start}")
    results = await run_stages()
    if failure := failure_of(results):
        return Failed(message=failure)
    if not release:
        return Completed(message=summary(results))
    try:
        verdict = await challenge(await refreshed_store(as_of))
    except CommandError as error:
        return Failed(message=str(error))
    await notify_rejection(verdict)
    message = f"{summary(results)}; {sentence(verdict)}"
    return Completed(name=None if verdict.passed else "Rejected", message=message)


def main() -> int:
    """Run the flow from the command line; 1 where a stage failed."""
    parser = parser_of(pipeline)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="logical date, e.g. 2026-01-18")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    parser.add_argument(
        "--no-release", dest="release", action="store_false", help="without a challenge of the champion"
    )
    parser.add_argument("--full-fit-every", type=int, default=1, help="days; other trainings begin in the champion (1)")
    return run_to_end(pipeline(**vars(parser.parse_args()), return_state=True))


if __name__ == "__main__":
    sys.exit(main())
