"""The flow `feedback`: the events of the service become a log that the pipeline reads.

    python -m flows.feedback

What is new in the queue is merged, and the days that change are written: a run that was killed, missed or started twice
needs no repair. Where features as served differ from those recomputed offline, the run fails; the log is written.
"""

import datetime
import sys

from prefect import State, flow, runtime
from prefect.artifacts import acreate_markdown_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify_failure
from flows.process.python_module import CommandError
from flows.tasks.feedback_log import collect, compare, page, sentence
from flows.tasks.online_store import utc
from flows.workspace.lock import workspace_lock


@flow(name="feedback", flow_run_name="feedback", on_failure=[notify_failure])
async def feedback(as_of: datetime.datetime | None = None) -> State:
    """Collect the events of the service into a log, and compare its features as served with recomputed ones.

    Args:
        as_of: The time (UTC) as of which labels are final; None: the scheduled start of the run.
    """
    timestamp = utc(as_of or runtime.flow_run.scheduled_start_time)
    try:
        async with workspace_lock(log=get_run_logger().info):  # the pipeline reads the log that is written here
            collected = await collect(timestamp)
            await acreate_markdown_artifact(key="feedback-log", markdown=page(collected), description="Events as a log")
            compared = await compare(collected.days)
    except CommandError as error:
        return Failed(message=str(error))
    if collected.skipped:
        return Completed(name="Skipped", message=collected.skipped)
    return Completed(message=sentence(collected, compared))


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = parser_of(feedback)
    parser.add_argument("--as-of", type=datetime.datetime.fromisoformat, help="time (UTC), e.g. 2026-01-18T02:00")
    return run_to_end(feedback(**vars(parser.parse_args()), return_state=True))


if __name__ == "__main__":
    sys.exit(main())
