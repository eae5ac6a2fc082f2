"""The collector: queue and scored-impression log in, the feedback log out.

What it does can be done twice: entries are merged, files are replaced. Each step is recorded after it, so that a kill
at any time repeats the last one. Days whose partitions are not written yet, or not final, are remembered as open.
"""

import dataclasses
import datetime
from dataclasses import dataclass
from pathlib import Path

import duckdb

from common.files import write_text
from common.serve_params import Feedback
from features.engine.connection import connect
from features.schema import Role, Schema, to_json
from serving.events.consumer import Queue
from serving.feedback.entities import Entities
from serving.feedback.partitions import DayCounts, Folders, Partitions, check_collectable
from serving.feedback.progress import Progress, read_progress
from serving.feedback.received import by_day, day_file, days_in, merge_day, parse

BATCH = 200_000  # entries that are read at once
READER = "feedback"  # the name of the collector in the queue
SCHEMA = "schema.json"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What is read: the queue, the schema of the model that serves, its impressions, and the ingested tables."""

    queue: Queue
    schema: Schema
    impressions: Path | None
    profiles: Path


class Collector:
    """Collects into the folder `out`: `received` events, the `log` that ingest reads, the features as `served`."""

    def __init__(self, sources: Sources, settings: Feedback, out: Path) -> None:
        check_collectable(sources.schema)
        self.sources, self.settings, self.out = sources, settings, out
        self.schema, self.queue = sources.schema, sources.queue
        self.folders = Folders(
            received=out / "received", log=out / "log", served=out / "served", impressions=sources.impressions
        )
        self.progress = read_progress(out, self.queue.identity)

    def receive(self) -> int:
        """Merge the new entries of the queue into the received events by day; returns how many there were."""
        entries = 0
        with connect() as connection:
            while batch := self.queue.after(self.progress.number, BATCH):
                for day, events in by_day(parse(batch, self.schema), self.schema):
                    self._record(open_days=self.progress.open_days | {day})
                    merge_day(connection, self.schema, events, day_file(self.folders.received, day))
                self._record(number=batch[-1].number)
                entries += len(batch)
        self.queue.acknowledge(READER, self.progress.number)
        return entries

    @property
    def has_events(self) -> bool:
        """Whether any event was ever received."""
        return bool(days_in(self.folders.received))

    def write(self, as_of: datetime.datetime) -> tuple[dict[str, int], dict[datetime.date, DayCounts]]:
        """Write users and items, and the partitions of the open days as of a time (UTC); returns rows and counts.

        Where the schema is another one than before, all days are written.
        """
        received, counts = days_in(self.folders.received), {}
        self._write_schema(received)
        days = sorted(self.progress.open_days & received)
        with connect() as connection:
            rows = self._write_entities(connection, days)
            partitions = Partitions(connection, self.schema, self.folders, self.settings)
            for day in days:
                counts[day] = partitions.write_day(day, as_of)
                if partitions.is_closed(day, as_of):
                    self._record(open_days=self.progress.open_days - {day})
        return rows, counts

    def _write_entities(self, connection: duckdb.DuckDBPyConnection, days: list[datetime.date]) -> dict[str, int]:
        """Write users and items, those of the events of `days` added; returns their rows, of no day nothing."""
        files = [day_file(self.folders.received, day) for day in days]
        return {
            table: Entities(schema=self.schema, table=table).write(
                connection, self.sources.profiles, files, self.folders.log
            )
            for table in ("users", "items")
            if files
        }

    def _write_schema(self, received: set[datetime.date]) -> None:
        path, text = self.folders.log / SCHEMA, to_json(open_ended(self.schema, max(received)))
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            self._record(open_days=frozenset(received))
            write_text(path, text)

    def _record(self, *, number: int | None = None, open_days: frozenset[datetime.date] | None = None) -> None:
        before = self.progress
        self.progress = Progress(
            identity=before.identity,
            number=before.number if number is None else number,
            open_days=before.open_days if open_days is None else open_days,
        )
        if self.progress != before:
            self.progress.write(self.out)


def open_ended(schema: Schema, newest: datetime.date) -> Schema:
    """The schema without a latest timestamp where events are later: it was the end of the log that was trained on."""
    (column,) = schema.by_role(Role.TIMESTAMP)
    end = datetime.datetime.combine(newest, datetime.time(), datetime.UTC) + datetime.timedelta(days=1)
    if column.maximum is None or end.timestamp() <= column.maximum:
        return schema
    unbounded = dataclasses.replace(column, maximum=None)
    return dataclasses.replace(schema, events=tuple(unbounded if c is column else c for c in schema.events))
