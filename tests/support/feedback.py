"""A service that showed the events of a tiny world: its queue, its scored-impression log, and a collector of both."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from common import params
from common.paths import ROOT
from features.schema import Schema
from serving.events.event_queue import EventQueue
from serving.events.event_request import event_type
from serving.feedback.collector import Collector, Sources
from tests.support import world
from tests.support.impressions import impressions, open_log

SCHEMA = world.schema()
LABELS = ("click", "order")
LATER = datetime(2026, 2, 1, tzinfo=UTC)  # when every label of the tiny world is final
BEFORE = timedelta(seconds=5)  # between a score and its event


def put(queue: EventQueue, rows: Iterable[dict[str, Any]], labels: tuple[str, ...] = LABELS) -> int:
    """A request of POST /events with these events and some of their labels; returns how many were not known yet."""
    accepted = event_type(SCHEMA)
    events = [
        accepted(
            event_id=row["event_id"],
            user_id=row["user_id"],
            item_id=row["item_id"],
            scenario=row["scenario"],
            timestamp=row["timestamp"],
            labels={name: int(row[name]) for name in labels if not pd.isna(row[name])},
        )
        for row in rows
    ]
    return queue.put([(event.event_id, event.line()) for event in events])


def log_impressions(folder: Path, events: pd.DataFrame) -> None:
    """The scored-impression log of a service that showed each event by a request of its own."""
    log = open_log(folder)
    for row in events.to_dict("records"):
        entry = impressions(row["user_id"], (row["item_id"],), row["scenario"], row["hour"])
        log.add(entry, served_at=(row["timestamp"] - BEFORE).to_pydatetime())
    log.close()
    assert log.written == len(events)


def write_profiles(folder: Path, tables: dict[str, pd.DataFrame]) -> Path:
    """Users and items as `ingest` writes them."""
    world.write_validated(folder, tables)
    return folder


def collector(root: Path, queue: EventQueue, schema: Schema = SCHEMA, **changes: object) -> Collector:
    """A collector of the queue and of the log in `root`/impressions, with profiles in `root`/ingested."""
    settings = params.load(ROOT / "params.yaml").feedback.model_copy(update=changes)
    sources = Sources(queue=queue, schema=schema, impressions=root / "impressions", profiles=root / "ingested")
    return Collector(sources, settings, root / "feedback")


def rows_of(root: Path, table: str = "log/events") -> pd.DataFrame:
    """The rows of the partitions, by event id."""
    parts = [pd.read_parquet(file) for file in sorted((root / "feedback" / table).glob("day=*/*.parquet"))]
    return pd.concat(parts).sort_values("event_id", ignore_index=True) if parts else pd.DataFrame()
