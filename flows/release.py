"""The flow `release`: the newest model challenges the champion.

    python -m flows.release --as-of 2026-01-18

Promotion policy and rollback are in release/promote.py, which needs no flow. A rejected challenger is no failure: the
champion stays.
"""

import datetime
import sys

from prefect import State, flow, runtime
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify_failure
from flows.process.python_module import CommandError
from flows.tasks.promotion import challenge, notify_rejection, sentence
from flows.workspace.dates import mark_done, skipped
from flows.workspace.lock import workspace_lock


@flow(name="release", flow_run_name="release", on_failure=[notify_failure])
async def release(
    as_of: datetime.date | None = None, again: bool = False, options: dict[str, str] | None = None
) -> State:
    """Let the newest model challenge the champion.

    Args:
        as_of: The logical date; None: the scheduled day. A date that is done is skipped.
        again: Run even if the date is done.
        options: Options of release.promote, such as another online store and the timestamp of its features.
    """
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    try:
        async with workspace_lock(log=get_run_logger().info):
            if not again and (done := skipped("release", as_of)):
                return done
            verdict = await challenge(options or {})
            await notify_rejection(verdict)
            mark_done("release", as_of)  # after the verdict was acted on: a run that dies before is run again
            return Completed(name="Released" if verdict.passed else "Rejected", message=sentence(verdict))
    except CommandError as error:
        return Failed(message=str(error))


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = parser_of(release)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="logical date, e.g. 2026-01-18")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    return run_to_end(release(**vars(parser.parse_args()), return_state=True))


if __name__ == "__main__":
    sys.exit(main())
