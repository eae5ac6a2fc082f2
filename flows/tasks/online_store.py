"""The online store in use, materialized up to a timestamp by `python -m features.refresh`."""

import datetime
from pathlib import Path

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field

from common.exit_status import LOCKED
from common.paths import CHAMPION_MODEL, FEATURES, FLOWS, SCHEMA, SERVING_STORE
from flows.ops.written_by import written_by
from flows.process.document import Document, run_for_document, set_aside
from flows.process.python_module import CommandError

OUT = FLOWS / "online"
REPORT = "refresh.json"
RETRY_SECONDS = [2.0, 5.0, 15.0, 30.0, 60.0]


class Counts(BaseModel):
    """Rows of a view: written (`late`: those of them before the watermark), and left out, by reason."""

    written: int
    late: int
    unchanged: int
    older: int
    later: int


class Summary(Document):
    """The content of refresh.json; `skipped` is why nothing was to be done, `up_to` how far the store is materialized.

    `again`: online and offline had differed, so that all of the store was written once more. `of_champion`: the store
    was left to the champion, because the tree's features are no longer those that it reads.
    """

    as_of: datetime.datetime
    up_to: datetime.datetime
    skipped: str | None
    again: bool = False
    of_champion: bool = False
    views: dict[str, Counts] = Field(default_factory=dict)
    compared: dict[str, int] = Field(default_factory=dict)


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
    """Materialize the store `online` up to `as_of` (UTC); raises CommandError where this run did not do it."""
    options = {
        "--schema": str(SCHEMA),
        "--features": str(FEATURES),
        "--online": str(online),
        "--as-of": f"{as_of:%Y-%m-%dT%H:%M:%S}",
        "--out": str(OUT),
        "--champion": str(CHAMPION_MODEL),
    }
    set_aside(OUT, REPORT)
    return await run_for_document(Summary, "features.refresh", options, OUT / REPORT)


def store_options(summary: Summary) -> dict[str, str]:
    """The store in use, and the timestamp that it is materialized up to, as options of release.promote."""
    return {"--online": str(SERVING_STORE), "--as-of": summary.up_to.isoformat()}


def sentence(summary: Summary) -> str:
    """Rows written, late ones, and how many entities were compared with the offline store."""
    views, compared = summary.views.values(), sum(summary.compared.values())
    written, late = sum(view.written for view in views), sum(view.late for view in views)
    again = "; online and offline had differed, so all of the store was written again" if summary.again else ""
    return f"{written:,} rows written ({late:,} late), {compared:,} entities are as in the offline store{again}"


def page(summary: Summary) -> str:
    """The rows written of each view, and how the store compares, as Markdown."""
    head = f"# The online store as of {summary.as_of.isoformat()}\n\n"
    if summary.skipped:
        return f"{head}{summary.skipped}\n\n{written_by(summary.run)}\n"
    names = list(Counts.model_fields)
    rows = "".join(
        f"| {view} | {' | '.join(f'{getattr(count, name):,}' for name in names)} | {summary.compared[view]:,} |\n"
        for view, count in summary.views.items()
    )
    table = f"| view | {' | '.join(names)} | compared |\n|---{'|---:' * (len(names) + 1)}|\n{rows}"
    legend = f"`later`: rows with a later timestamp, left out. Data Docs of the comparison: `{OUT}/docs/index.html`"
    return f"{head}{sentence(summary)}.\n\n{table}\n{legend}\n\n{written_by(summary.run)}\n"
