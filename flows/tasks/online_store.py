"""The online store in use, materialized up to a timestamp by `python -m features.refresh`."""

import datetime
import json
from pathlib import Path
from typing import Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE

from common.exit_status import LOCKED
from common.paths import FEATURES, FLOWS, SCHEMA, SERVING_STORE
from flows.process.python_module import CommandError, run_module

OUT = FLOWS / "online"
WATERMARK = Path(f"{SERVING_STORE}.written/watermark.json")  # written by features.refresh
RETRY_SECONDS = [2.0, 5.0, 15.0, 30.0, 60.0]
COUNTS = ("written", "late", "unchanged", "older", "later")

Summary = dict[str, Any]  # the content of refresh.json


def utc(timestamp: datetime.datetime) -> datetime.datetime:
    """`timestamp` in UTC; one without a time zone is in UTC already."""
    return timestamp.replace(tzinfo=datetime.UTC) if timestamp.tzinfo is None else timestamp.astimezone(datetime.UTC)


def store_is_locked(_task: object, _run: object, state: State) -> bool:
    """Whether a retry can help: another process writes to the store."""
    return isinstance(state.data, CommandError) and state.data.status == LOCKED


@task(
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=store_is_locked,
    cache_policy=NO_CACHE,
)
async def refresh(as_of: datetime.datetime, online: Path) -> Summary:
    """Materialize the store `online` up to `as_of` (UTC); raises CommandError where features.refresh failed."""
    options = {
        "--schema": str(SCHEMA),
        "--features": str(FEATURES),
        "--online": str(online),
        "--as-of": f"{as_of:%Y-%m-%dT%H:%M:%S}",
        "--out": str(OUT),
    }
    await run_module("features.refresh", options)
    summary: Summary = json.loads((OUT / "refresh.json").read_text())
    return summary


def store_options() -> dict[str, str]:
    """The store in use, and the timestamp that it is materialized up to, as options of release.promote."""
    views = json.loads(WATERMARK.read_text())["views"]
    return {"--online": str(SERVING_STORE), "--as-of": min(views.values())}


def sentence(summary: Summary) -> str:
    """Rows written, late ones, and how many entities were compared with the offline store."""
    views, compared = summary["views"].values(), sum(summary["compared"].values())
    written, late = (sum(view[name] for view in views) for name in ("written", "late"))
    again = "; online and offline had differed, so all of the store was written again" if summary["again"] else ""
    return f"{written:,} rows written ({late:,} late), {compared:,} entities are as in the offline store{again}"


def page(summary: Summary) -> str:
    """The rows written of each view, and how the store compares, as Markdown."""
    head = f"# The online store as of {summary['as_of']}\n\n"
    if summary["skipped"]:
        return f"{head}{summary['skipped']}\n"
    rows = "".join(
        f"| {view} | {' | '.join(f'{count[name]:,}' for name in COUNTS)} | {summary['compared'][view]:,} |\n"
        for view, count in summary["views"].items()
    )
    table = f"| view | {' | '.join(COUNTS)} | compared |\n|---{'|---:' * (len(COUNTS) + 1)}|\n{rows}"
    legend = f"`later`: rows with a later timestamp, left out. Data Docs of the comparison: `{OUT}/docs/index.html`"
    return f"{head}{sentence(summary)}.\n\n{table}\n{legend}\n"
