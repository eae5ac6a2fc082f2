"""The flow `materialize`: the online store in use, materialized up to a timestamp.

    python -m flows.materialize --as-of 2026-01-18T02:00

How far the store is materialized is recorded beside it (its watermark): a run that was killed, missed or started twice
needs no repair.
"""

import datetime
import sys
from pathlib import Path

from prefect import State, flow, runtime
from prefect.artifacts import acreate_markdown_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from common.paths import SERVING_STORE
from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError
from flows.tasks.online_store import page, refresh, sentence, utc
from flows.workspace.lock import workspace_lock


@flow(name="materialize", flow_run_name="materialize", on_failure=[notify_failure])
async def materialize(as_of: datetime.datetime | None = None, online: Path = SERVING_STORE) -> State:
    """Materialize the online store in use up to a timestamp, and report the rows that were written.

    Args:
        as_of: The timestamp (UTC); None: the scheduled start of the run.
        online: The SQLite file of the store.
    """
    timestamp = utc(as_of or runtime.flow_run.scheduled_start_time)
    try:
        async with workspace_lock(log=get_run_logger().info):  # the pipeline replaces the features that are read here
            summary = await refresh(timestamp, online)
    except CommandError as error:
        return Failed(message=str(error))
    finally:
        await write_index()
    await acreate_markdown_artifact(key="online-store", markdown=page(summary), description="The online store in use")
    if summary.skipped:
        return Completed(name="Skipped", message=summary.skipped)
    return Completed(message=sentence(summary))


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = parser_of(materialize)
    parser.add_argument("--as-of", type=datetime.datetime.fromisoformat, help="timestamp (UTC), e.g. 2026-01-18T02:00")
    parser.add_argument("--online", type=Path, default=SERVING_STORE, help=f"the SQLite file in use ({SERVING_STORE})")
    return run_to_end(materialize(**vars(parser.parse_args()), return_state=True))


if __name__ == "__main__":
    sys.exit(main())
