"""The feedback log, made of the service's events by `python -m serving.collect`, and its features as served."""

import datetime
from collections.abc import Collection

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel, Field

from common.paths import CHAMPION_MODEL, FEATURES, FEEDBACK, FLOWS, INGESTED, MODEL, SCHEMA, VIEWS
from flows.ops.written_by import written_by
from flows.process.document import Document, run_for_document, set_aside
from flows.tasks.online_store import RETRY_SECONDS, store_is_locked

OUT = FLOWS / "feedback"
REPORT = "feedback.json"
SERVED = FLOWS / "served"
GATE_REPORT = "report.json"


class DayCounts(BaseModel):
    """Events of a day: received, with an impression, written as rows; `lacking`: the others, by what they lack."""

    received: int
    matched: int
    written: int
    lacking: dict[str, int]


class Collected(Document):
    """The content of feedback.json; `skipped` is why nothing was to be done, `days` are those that were written."""

    skipped: str | None
    entries: int = 0
    users: int | None = None
    items: int | None = None
    days: dict[datetime.date, DayCounts] = Field(default_factory=dict)


class Suite(BaseModel):
    """How many impressions were compared for a view."""

    rows: int


class Compared(Document):
    """The content of report.json: the features as served against the recomputed ones, by view; the gate is open."""

    tables: dict[str, Suite]


@task(
    retries=len(RETRY_SECONDS),
    retry_delay_seconds=RETRY_SECONDS,
    retry_condition_fn=store_is_locked,
    cache_policy=NO_CACHE,
)
async def collect(as_of: datetime.datetime) -> Collected:
    """Collect what is new, labels as of `as_of` (UTC); raises CommandError where this run did not do it."""
    options = {
        "--model": str(CHAMPION_MODEL if CHAMPION_MODEL.exists() else MODEL),
        "--profiles": str(INGESTED),
        "--out": str(FEEDBACK),
        "--as-of": f"{as_of:%Y-%m-%dT%H:%M:%S}",
        "--report": str(OUT / REPORT),
    }
    set_aside(OUT, REPORT)
    return await run_for_document(Collected, "serving.collect", options, OUT / REPORT)


@task(cache_policy=NO_CACHE)
async def compare(days: Collection[datetime.date]) -> Compared | None:
    """Compare the features as served on these days with those recomputed; None where there is nothing to compare.

    Raises CommandError where more of them differ than params.yaml allows.
    """
    if not days or not VIEWS.exists():
        return None
    options = {
        "--served": str(FEEDBACK / "served"),
        "--schema": str(SCHEMA),
        "--features": str(FEATURES),
        "--first-day": str(min(days)),
        "--last-day": str(max(days)),
        "--out": str(SERVED),
    }
    set_aside(SERVED, GATE_REPORT)
    return await run_for_document(Compared, "features.inspect_served", options, SERVED / GATE_REPORT)


def sentence(collected: Collected, compared: Compared | None = None) -> str:
    """New entries, the days that were written, their rows, events that are none yet, features that were compared."""
    days = collected.days.values()
    rows, waiting = sum(day.written for day in days), sum(sum(day.lacking.values()) for day in days)
    counts = f"{rows:,} impressions, {waiting:,} events are none yet"
    text = f"{collected.entries:,} new entries; days written: {len(days)} ({counts})"
    rows = max((suite.rows for suite in compared.tables.values()), default=0) if compared else 0
    return f"{text}; features as served of {rows:,} impressions are as recomputed" if rows else text


def page(collected: Collected) -> str:
    """The counts of each day, as Markdown."""
    head = "# The feedback log\n\n"
    if collected.skipped:
        return f"{head}{collected.skipped}\n\n{written_by(collected.run)}\n"
    lacks = list(dict.fromkeys(what for day in collected.days.values() for what in day.lacking))
    names = ["events", "with an impression", "in the log", *(f"lack a {what}" for what in lacks)]
    rows = "".join(
        f"| {day} | {' | '.join(f'{count:,}' for count in _counts(counts, lacks))} |\n"
        for day, counts in collected.days.items()
    )
    table = f"| day | {' | '.join(names)} |\n|---{'|---:' * len(names)}|\n{rows}"
    return f"{head}{sentence(collected)}.\n\n{table}\n\n{written_by(collected.run)}\n"


def _counts(day: DayCounts, lacks: list[str]) -> list[int]:
    return [day.received, day.matched, day.written, *(day.lacking.get(what, 0) for what in lacks)]
