"""The flow `backtest`: the pipeline on each day of a log in turn, as if that day were today, and what it gained.

    python -m flows.backtest --retrain-every 3 --set dataset.simulation.shift.kind=taste

Every morning the online store is refreshed, a model is trained where one is due, and challenges the champion. Then the
champion serves the impressions of the day, and the drift report compares them with the champion's training data. It all
happens in a copy of the project under `--out`. A finished day is kept: run again, also after a kill, the backtest goes
on with the next day.
"""

import datetime
import sys
from pathlib import Path
from typing import Annotated

from prefect import State, flow
from prefect.artifacts import acreate_markdown_artifact
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from common.errors import PipelineError
from common.paths import FLOWS
from flows.ops.command_line import parser_of, run_to_end
from flows.ops.notify import notify_failure
from flows.ops.written_by import written_by
from flows.process.python_module import CommandError
from flows.tasks.backtest_days import Backtest
from flows.workspace.lock import workspace_lock
from flows.workspace.project_copy import inside

OUT = FLOWS / "backtest"


@flow(name="backtest", flow_run_name="backtest", on_failure=[notify_failure])
async def backtest(
    as_of: datetime.date | None = None,
    first_day: datetime.date | None = None,
    retrain_every: Annotated[int, Field(ge=1, le=366)] = 1,
    on_act: bool = True,
    full_fit_every: Annotated[int, Field(ge=1, le=366)] = 1,
    settings: dict[str, str] | None = None,
    out: Path = OUT,
    again: bool = False,
) -> State:
    """Run the pipeline on each day of the log, and compare the champion with a model that is never retrained.

    Args:
        as_of: The day after the last one; None: up to the end of the log.
        first_day: The first day that a model serves; None: the eighth day of the log.
        retrain_every: Days between two trainings.
        on_act: Train also on the day after a drift verdict of act.
        full_fit_every: Days between two trainings with new weights, from the first day on; the others begin in the
            champion.
        settings: Parameters by their dotted names, set in the copy of the project.
        out: Folder of the backtest.
        again: Begin anew, on the project as it is now.
    """
    arguments = {
        "first_day": str(first_day),
        "retrain_every": retrain_every,
        "on_act": on_act,
        "full_fit_every": full_fit_every,
        "settings": settings or {},
    }
    try:
        days = Backtest(out.absolute(), arguments, again=again)
        with inside(days.project):
            async with workspace_lock(log=get_run_logger().info):
                timeline = await days.run(as_of, first_day)
    except (CommandError, PipelineError) as error:
        return Failed(message=str(error))
    text = f"{(out / 'timeline.md').read_text()}\n{written_by(timeline.run)}\n"
    await acreate_markdown_artifact(key="backtest", markdown=text, description="The days of a log, one by one")
    return Completed(message=f"{timeline.sentence}. See {out}/timeline.md")


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = parser_of(backtest)
    date = datetime.date.fromisoformat
    parser.add_argument("--as-of", type=date, help="the day after the last one, e.g. 2026-01-18 (end of the log)")
    parser.add_argument("--first-day", type=date, help="that a model serves (the eighth of the log)")
    parser.add_argument("--retrain-every", type=int, default=1, help="days (1)")
    parser.add_argument("--schedule-only", dest="on_act", action="store_false", help="no training because of a verdict")
    parser.add_argument("--full-fit-every", type=int, default=1, help="days; other trainings begin in the champion (1)")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="a parameter")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of the backtest ({OUT})")
    parser.add_argument("--again", action="store_true", help="begin anew, on the project as it is now")
    arguments = vars(parser.parse_args())
    arguments["settings"] = dict(pair.split("=", 1) for pair in arguments["settings"])
    return run_to_end(backtest(**arguments, return_state=True))


if __name__ == "__main__":
    sys.exit(main())
