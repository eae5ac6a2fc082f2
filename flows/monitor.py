"""The flow `monitor`: the drift report on the newest days, and what its verdict triggers.

    python -m flows.monitor --as-of 2026-01-18 --days 2    # the two days before

ok: the run completes. watch: a notification is sent. act: a notification is sent and the pipeline is started. Without a
verdict the run fails.
"""

import datetime
import sys
from pathlib import Path
from typing import Annotated

from prefect import State, flow, runtime
from prefect.artifacts import acreate_markdown_artifact
from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from common import params
from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify, notify_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError
from flows.tasks.drift_report import CURRENT, Report, message, page, report_drift
from flows.workspace.dates import mark_done, skipped
from flows.workspace.lock import workspace_lock


@flow(name="monitor", flow_run_name="monitor", on_failure=[notify_failure])
async def monitor(
    as_of: datetime.date | None = None,
    days: Annotated[int, Field(ge=1, le=366)] = 2,
    current: str = CURRENT,
    reference: Path | None = None,
    again: bool = False,
) -> State:
    """Report the drift of the newest days, and act on the verdict.

    Args:
        as_of: The day after the window; None: the scheduled day. A date that is done is skipped.
        days: Days of the window.
        current: File or pattern of the rows that are compared.
        reference: Folder of the model whose training data they are compared with; None: the champion, or the newest
            model before the first release.
        again: Run even if the date is done.
    """
    as_of = as_of or runtime.flow_run.scheduled_start_time.date()
    try:
        async with workspace_lock(log=get_run_logger().info):
            if not again and (done := skipped("monitor", as_of)):
                return done
            try:
                report = await report_drift(as_of, days, current, reference)
            finally:
                await write_index()
            await acreate_markdown_artifact(
                key="drift-report", markdown=page(report), description="Verdict on the newest window"
            )
            state = await act_on(report, as_of)
            mark_done("monitor", as_of)  # after the verdict was acted on: a run that dies before is run again
            return state
    except CommandError as error:
        return Failed(message=str(error))


async def act_on(report: Report, as_of: datetime.date) -> State:
    """Notify and start the pipeline as the verdict demands; the final state of the run is named after the verdict."""
    verdict, body = report.verdict, message(report)
    if verdict == "ok":
        return Completed(message=report.reason)
    if verdict == "act":
        body = f"{await start(params.load().flows.on_act, as_of)}\n{body}"
    await notify(f"monitor: {verdict}", body)
    return Completed(name=verdict.capitalize(), message=body)


async def start(deployment: str, as_of: datetime.date) -> str:
    """Start `deployment` as of that date, once however often this is called; the sentence that reports it."""
    key = f"monitor-{as_of}"
    try:
        run = await arun_deployment(
            deployment, parameters={"as_of": str(as_of), "again": True}, timeout=0, idempotency_key=key
        )
    except ObjectNotFound:
        return f"there is no deployment {deployment} to start: run `python -m flows.pipeline --as-of {as_of} --again`"
    return f"{deployment} was started: run {run.name} ({run.id})"


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = parser_of(monitor)
    parser.add_argument("--as-of", type=datetime.date.fromisoformat, help="date, e.g. 2026-01-18")
    parser.add_argument("--days", type=int, default=2, help="of the window before it (2)")
    parser.add_argument("--current", default=CURRENT, help=f"file or pattern ({CURRENT})")
    parser.add_argument("--reference", type=Path, help="folder of the model (the champion)")
    parser.add_argument("--again", action="store_true", help="even if that date is done")
    return run_to_end(monitor(**vars(parser.parse_args()), return_state=True))


if __name__ == "__main__":
    sys.exit(main())
