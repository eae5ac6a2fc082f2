"""The online store in use, brought up to a moment: `python -m features.refresh` as a flow, tried again while locked.

    python -m flows.materialize --as-of 2026-01-18T02:00

What is done stands beside the store (its watermark): a run that was killed, missed or started twice needs no care.
"""

import argparse
import asyncio
import datetime
import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed, State

from flows.ops.notify import tell_failure
from flows.ops.reports_index import write_index
from flows.process.python_module import CommandError, run_module
from flows.workspace.lock import alone

ONLINE, OUT = Path("artifacts/serving/online.db"), Path("artifacts/flows/online")
WATERMARK = Path(f"{ONLINE}.written/watermark.json")  # what features.refresh says of it
LOCKED = 75  # features.refresh: somebody else writes to the store
DELAYS = [2.0, 5.0, 15.0, 30.0, 60.0]  # seconds


@flow(name="materialize", flow_run_name="materialize", on_failure=[tell_failure])
async def materialize(as_of: datetime.datetime | None = None, online: Path = ONLINE) -> State:
    """Bring the store `online` up to a moment (that for which the run was scheduled), and say what was written."""
    moment = utc(as_of or runtime.flow_run.scheduled_start_time)
    try:
        async with alone(log=get_run_logger().info):  # the pipeline removes what it makes anew
            told = await refresh(moment, online)
    except CommandError as error:
        return Failed(message=str(error))
    finally:
        await write_index()
    await acreate_markdown_artifact(key="online-store", markdown=page(told), description="The online store in use")
    if told["skipped"]:
        return Completed(name="Skipped", message=told["skipped"])
    return Completed(message=sentence(told))


def utc(moment: datetime.datetime) -> datetime.datetime:
    """`moment` in UTC, which is what one without a zone is."""
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def store_is_locked(_task: object, _run: object, state: State) -> bool:
    """Whether another try is worth it: somebody else writes to the store."""
    return isinstance(state.data, CommandError) and state.data.status == LOCKED


@task(retries=len(DELAYS), retry_delay_seconds=DELAYS, retry_condition_fn=store_is_locked, cache_policy=NO_CACHE)
async def refresh(moment: datetime.datetime, online: Path) -> dict[str, Any]:
    """What `python -m features.refresh` wrote down; raises CommandError where it stopped."""
    options = {
        "--schema": "data/schema.json",
        "--features": "data/features",
        "--online": str(online),
        "--as-of": f"{moment:%Y-%m-%dT%H:%M:%S}",
        "--out": str(OUT),
    }
    await run_module("features.refresh", options)
    told: dict[str, Any] = json.loads((OUT / "refresh.json").read_text())
    return told


def sentence(told: dict[str, Any]) -> str:
    """Rows written, late ones, and how many entities were compared with the offline store."""
    views, compared = told["views"].values(), sum(told["compared"].values())
    written, late = (sum(view[name] for view in views) for name in ("written", "late"))
    again = "; online and offline had differed, so all of the store was written again" if told["again"] else ""
    return f"{written:,} rows written ({late:,} late), {compared:,} entities are as in the offline store{again}"


def page(told: dict[str, Any]) -> str:
    """What was written of each view, and how the store compares: Markdown."""
    head = f"# The online store as of {told['as_of']}\n\n"
    if told["skipped"]:
        return f"{head}{told['skipped']}\n"
    names = ("written", "late", "unchanged", "older", "later")
    rows = "".join(
        f"| {view} | {' | '.join(f'{count[name]:,}' for name in names)} | {told['compared'][view]:,} |\n"
        for view, count in told["views"].items()
    )
    table = f"| view | {' | '.join(names)} | compared |\n|---{'|---:' * (len(names) + 1)}|\n{rows}"
    legend = f"`later`: rows of the future as of that moment, kept out. The check's pages: `{OUT}/docs/index.html`"
    return f"{head}{sentence(told)}.\n\n{table}\n{legend}\n"


def main() -> int:
    """Run the flow from the command line; 1 where it failed."""
    parser = argparse.ArgumentParser(prog="python -m flows.materialize", description=materialize.description)
    parser.add_argument("--as-of", type=datetime.datetime.fromisoformat, help="moment (UTC), e.g. 2026-01-18T02:00")
    parser.add_argument("--online", type=Path, default=ONLINE, help=f"the SQLite file in use ({ONLINE})")
    chosen = parser.parse_args()
    run = materialize(as_of=chosen.as_of, online=chosen.online, return_state=True)
    state: State = asyncio.run(run)  # type: ignore[arg-type]
    print(state.message, file=sys.stderr if state.is_failed() else sys.stdout)
    return int(state.is_failed())


if __name__ == "__main__":
    sys.exit(main())
