"""Received events as rows of the schema: a partition of the log for each day, and beside it the features as served.

What an event does not say, the scored-impression log does: the context in which the item was scored, of the newest
impression of the same user, item and scenario, not later than the event. A row is written once it is one of the
schema: every column that may not be missing has a value. A label that nobody reported is 0 some time after the event.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import SchemaError, SourceError
from common.files import replacing
from common.serve_params import Feedback
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.blocks import blocks
from features.schema import Column, DType, Role, Schema
from serving.feedback.received import day_file, received_columns
from serving.telemetry.impression_log import REQUEST_ID, SERVED_AT

ROWS = 131_072  # of a row group, and in memory at once
_LACKS = "__lacks"  # why a row is none of the schema yet; null where it is one
PROFILE, CONTEXT, LABEL = "profile", "context", "label"
LACKS = (PROFILE, CONTEXT, LABEL)
_FROM_LOG = (Role.FEATURE, Role.CHOICE_SET)


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """Events of a day: received, matched to an impression of the log, written, and not written by what they lack."""

    received: int
    matched: int
    written: int
    lacking: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where things are: `received` and `log` of the collector, `served` features, the scored-impression log."""

    received: Path
    log: Path
    served: Path
    impressions: Path | None


def check_collectable(schema: Schema) -> None:
    """Raises SchemaError where a column of an impression can be known neither from an event nor from the log."""
    for column in schema.by_role(Role.WEIGHT, Role.POSITION, Role.CHOICE_SET):
        if column.role is Role.CHOICE_SET and column.dtype is DType.STRING:
            continue  # the id of the request
        if not column.nullable:
            raise SchemaError(
                f"column {column.name}: the {column.role} of a served impression is not known, and the schema of "
                f"{schema.name} does not allow a missing one: a feedback log of this data set cannot be made"
            )


class Partitions:
    """Writes the partitions of a schema, as of the time `as_of` (UTC)."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, schema: Schema, folders: Folders, settings: Feedback
    ) -> None:
        self.connection, self.schema, self.folders, self.settings = connection, schema, folders, settings
        connection.register("__none", arrow_schema(received_columns(schema)).empty_table())

    def is_closed(self, day: date, as_of: datetime) -> bool:
        """Whether every label of the day is final."""
        midnight = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=1)
        return as_of >= midnight + timedelta(hours=self.settings.outcome_hours)

    def write_day(self, day: date, as_of: datetime) -> DayCounts:
        """Write the partition of a day, and the features as served, again."""
        received, served = day_file(self.folders.received, day), day_file(self.folders.served, day)
        try:
            self._match(day, received, served)
            lacking, written = self._write(received, served, day_file(self.folders.log / "events", day), as_of)
        except (duckdb.Error, pa.ArrowException) as error:
            raise SourceError(
                f"the events of {day} cannot be joined with the impressions in {self.folders.impressions}: {error}. "
                "Expected both to be of the schema of the model that serves"
            ) from error
        matched = pq.read_metadata(served).num_rows if served.exists() else 0
        total = pq.read_metadata(received).num_rows
        return DayCounts(received=total, matched=matched, written=written, lacking=lacking)

    def _match(self, day: date, received: Path, served: Path) -> None:
        """Write the impression of each event that has one; those of before stay where the log no longer holds them."""
        files = self._impressions(day)
        if not files:
            return
        event_id, timestamp = sql.column(self.schema.event_id), sql.column(self.schema.timestamp)
        keys = map(sql.column, (self.schema.user, self.schema.item, self.schema.scenario))
        query = f"""
            select __events.{event_id}, __served.*
            from {self._events(received)} as __events asof join {sql.parquet_by_name(files)} as __served
            on {" and ".join(f"__events.{key} = __served.{key}" for key in keys)}
            and __events.{timestamp} >= __served.{SERVED_AT}
            where __served.{SERVED_AT} >= __events.{timestamp} - interval '{self._match_microseconds} microseconds'"""
        if served.exists():
            query = f"""
                with __new as ({query}) from __new union all by name
                from {sql.parquet(served)} where {event_id} not in (select {event_id} from __new)"""
        with replacing(served) as partial:
            self.connection.execute(f"copy ({query} order by {event_id}) to {sql.literal(partial)} (format parquet)")

    @property
    def _match_microseconds(self) -> int:
        return round(self.settings.match_minutes * 60_000_000)

    def _impressions(self, day: date) -> list[Path]:
        """The files of the log with impressions that events of the day may belong to."""
        if self.folders.impressions is None:
            return []
        start = datetime.combine(day, datetime.min.time()) - timedelta(minutes=self.settings.match_minutes)
        days = (start.date() + timedelta(days=ago) for ago in range((day - start.date()).days + 1))
        return [path for one in days for path in sorted(self.folders.impressions.glob(f"day={one}/hour=*/*.parquet"))]

    def _write(self, received: Path, served: Path, path: Path, as_of: datetime) -> tuple[dict[str, int], int]:
        """Write the complete rows; how many others lack what, and how many were written."""
        lacking, types = dict.fromkeys(LACKS, 0), arrow_schema(self.schema.events)
        reader = self.connection.execute(self._query(received, served, as_of)).to_arrow_reader(ROWS)
        written = 0
        with replacing(path) as partial, pq.ParquetWriter(partial, types) as writer:
            for block in blocks(reader, ROWS):
                for reason in LACKS:
                    lacking[reason] += pc.sum(pc.equal(block[_LACKS], reason)).as_py() or 0
                rows = block.filter(pc.is_null(block[_LACKS])).select(types.names)
                writer.write_table(rows.cast(types))
                written += rows.num_rows
        if not written:
            path.unlink()
            path.parent.rmdir()
        return lacking, written

    def _query(self, received: Path, served: Path, as_of: datetime) -> str:
        """SQL: the events of a day in order of time and id, as rows of the schema, and what each lacks."""
        present = set(pq.read_schema(served).names) if served.exists() else set()
        event_id, timestamp = sql.column(self.schema.event_id), sql.column(self.schema.timestamp)
        values = ", ".join(self._value(column, present, as_of) for column in self.schema.events)
        joined = f"left join {sql.parquet(served)} as __served using ({event_id})" if present else ""
        return f"""
            with __rows as (select {values} from {self._events(received)} as __events {joined})
            select *, case when not ({self._has_profile()}) then '{PROFILE}'
                when {_any_missing(self.schema.by_role(*_FROM_LOG))} then '{CONTEXT}'
                when {_any_missing(self.schema.by_role(Role.LABEL))} then '{LABEL}' end as {_LACKS}
            from __rows order by {timestamp}, {event_id}"""

    def _events(self, received: Path) -> str:
        """SQL: received events; a label that was not declared when they came is null."""
        return f"(from __none union all by name from {sql.parquet(received)})"

    def _value(self, column: Column, present: set[str], as_of: datetime) -> str:
        name = sql.column(column.name)
        if column.role is Role.LABEL:
            return f"{self._label(column, as_of)} as {name}"
        if column.role in _FROM_LOG:
            of_log = REQUEST_ID if column.role is Role.CHOICE_SET else column.name
            return f"__served.{sql.column(of_log)} as {name}" if of_log in present else f"null as {name}"
        return f"null as {name}" if column.role in (Role.WEIGHT, Role.POSITION) else f"__events.{name}"

    def _label(self, column: Column, as_of: datetime) -> str:
        """SQL: what is known of a label: a task that requires it makes it 1; unreported it is 0 after some hours."""
        name = f"__events.{sql.column(column.name)}"
        if column.name not in self.schema.rated:
            return name
        implied = [f"case when __events.{sql.column(task)} = 1 then 1 end" for task in _requiring(self.schema, column)]
        known = f"greatest({', '.join([name, *implied])})" if implied else name
        if column.nullable:
            return known
        latest = (as_of - timedelta(hours=self.settings.outcome_hours)).replace(tzinfo=None)
        timestamp = f"__events.{sql.column(self.schema.timestamp)}"
        return f"coalesce({known}, case when {timestamp} <= timestamp '{latest.isoformat(' ')}' then 0 end)"

    def _has_profile(self) -> str:
        """SQL: whether user and item of a row are in the tables of the log."""
        tables = ((self.schema.user, "users"), (self.schema.item, "items"))
        return " and ".join(
            f"{sql.column(key)} in (select {sql.column(key)} from {sql.parquet(self.folders.log / f'{table}.parquet')})"
            for key, table in tables
        )


def _requiring(schema: Schema, label: Column) -> list[str]:
    """The tasks whose label 1 says that this one is 1, by one step or several."""
    direct = [task.name for task in schema.tasks if task.requires == label.name]
    columns = {column.name: column for column in schema.by_role(Role.LABEL)}
    return direct + [name for task in direct for name in _requiring(schema, columns[task])]


def _any_missing(columns: Iterable[Column]) -> str:
    """SQL: whether a value that may not be missing is."""
    required = [f"{sql.column(column.name)} is null" for column in columns if not column.nullable]
    return " or ".join(required) or "false"
