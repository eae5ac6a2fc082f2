"""Scored impressions of the service as a window: rows with the columns of the training set, and labels that came later.

The log of the service (serving/telemetry/impression_log.py) holds features and probabilities; the accepted events of
`validate` hold the labels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import ParameterError, SourceError
from common.files import replacing
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.engine.sql import as_pattern
from features.engine.sql import column as quoted
from features.schema import Column, Role, Schema, View

MOST_MINUTES = 527_040
ROWS = 131_072  # of a row group, and in memory at once
REQUEST, SERVED_AT, POSITION, MODEL, SCORE = "request_id", "served_at", "place", "model_tag", "score_"  # its columns
ARM = "ab_arm"  # of those, only during an A/B test
_FROM_EVENT = (Role.EVENT_ID, Role.LABEL, Role.WEIGHT, Role.CHOICE_SET, Role.POSITION)  # columns that only events have


def write_served_window(
    folder: Path,
    events: Path,
    schema: Schema,
    views: tuple[View, ...],
    *,
    first_day: date,
    last_day: date,
    out: Path,
    match_minutes: float,
    arm: str | None = None,
) -> tuple[int, int]:
    """Write the impressions that were scored from `first_day` to `last_day` to the Parquet file `out`.

    One row per scored item, in order of time: the columns of the training set (events, then views), `score_<task>`,
    request_id, model_tag and, of an A/B test, ab_arm. Labels are null where no event has arrived, as are columns that
    the model does not read.

    Args:
        folder: the scored-impression log.
        events: accepted events, a folder per day.
        schema: the schema of the data set.
        views: the views of the training set.
        first_day: first day (UTC) of the window.
        last_day: last day (UTC) of the window, included.
        out: the Parquet file to write.
        match_minutes: the labels are those of the first event of the same user, item and scenario within this time.
        arm: only the impressions of this arm of an A/B test; None: all.

    Returns:
        The number of rows, and of those with an event.

    Raises:
        ParameterError: `match_minutes` is negative or too long.
        SourceError: the log has no file of these days, none of an A/B test where an arm is given, or cannot be joined
            with the events.
    """
    if not 0 <= match_minutes <= MOST_MINUTES:
        raise ParameterError(f"--match-minutes {match_minutes}: expected minutes from 0 to {MOST_MINUTES:,} (a year)")
    served = _files(folder, "day={}/hour=*/*.parquet", first_day, last_day)
    if not served:
        raise SourceError(
            f"{folder} holds no impressions scored from {first_day} to {last_day}: set serve.log.folder (or "
            "HINET_IMPRESSION_LOG) where the service runs, and pass that folder as --log"
        )
    until = last_day + timedelta(minutes=match_minutes) + timedelta(days=1)
    no_events = arrow_schema(schema.events).empty_table()
    with _connected(folder, served, _files(events, "day={}/*.parquet", first_day, until), no_events) as connection:
        present = {name for name, *_ in connection.execute("describe __served").fetchall()}
        scores = sorted(present & {SCORE + name for name in schema.output_names})
        minutes = f"interval '{round(match_minutes * 60_000_000)} microseconds'"
        if arm is not None and ARM not in present:
            raise SourceError(f"{folder} holds no impressions of an A/B test: leave out --arm {arm}")
        more = [*scores, REQUEST, MODEL, *({ARM} & present)]
        query = _query(schema, views, present, more, minutes)
        reader = connection.execute(query, {"arm": arm}).to_arrow_reader(ROWS)
        return _write(reader, _types(schema, views, more), out, schema)


def _files(folder: Path, pattern: str, first: date, last: date) -> list[Path]:
    """The complete files of the days."""
    days = (first + timedelta(days=day) for day in range((last - first).days + 1))
    return [path for day in days for path in sorted(folder.glob(pattern.format(day)))]


@contextmanager
def _connected(
    folder: Path, served: list[Path], events: list[Path], no_events: pa.Table
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the relations `__served` and `__events`; `no_events` is the table where no file is there."""
    try:
        with connect() as connection:
            for name, paths in (("__served", served), ("__events", events)):
                if paths:
                    patterns = [as_pattern(path) for path in paths]
                    connection.read_parquet(patterns, union_by_name=True, hive_partitioning=False).create_view(name)
                else:
                    connection.register(name, no_events)
            yield connection
    except (duckdb.Error, pa.ArrowException) as error:
        raise SourceError(
            f"the impressions in {folder} cannot be joined with their events: {error}. Expected both to have the "
            "columns and types of --schema and --views: pass those of the model that scored them"
        ) from error


def _query(schema: Schema, views: tuple[View, ...], present: set[str], more: list[str], minutes: str) -> str:
    within = f"__events.{quoted(schema.timestamp)} <= __served.{SERVED_AT} + {minutes}"
    columns = [_selected(column, present, within) for column in _columns(schema, views)]
    columns += [f"__served.{quoted(name)}" for name in more]
    of_arm = f"$arm is null or __served.{ARM} = $arm" if ARM in more else "$arm is null"
    keys = map(quoted, (schema.user, schema.item, schema.scenario))
    same = " and ".join(f"__served.{key} = __events.{key}" for key in keys)
    return f"""
        select {", ".join(columns)}
        from __served asof left join __events
          on {same} and __served.{SERVED_AT} <= __events.{quoted(schema.timestamp)}
        where {of_arm}
        order by __served.{SERVED_AT}, __served.{REQUEST}, __served.{POSITION}
    """


def _selected(column: Column, present: set[str], within: str) -> str:
    name = quoted(column.name)
    if column.role is Role.TIMESTAMP:
        return f"__served.{SERVED_AT} as {name}"
    if column.role in _FROM_EVENT:
        return f"case when {within} then __events.{name} end as {name}"
    return f"__served.{name}" if column.name in present else f"null as {name}"


def _columns(schema: Schema, views: tuple[View, ...]) -> tuple[Column, ...]:
    """The columns of the training set."""
    return (*schema.events, *(column for view in views for column in view.columns))


def _types(schema: Schema, views: tuple[View, ...], more: list[str]) -> pa.Schema:
    fields = (pa.field(name, pa.float64() if name.startswith(SCORE) else pa.string()) for name in more)
    return arrow_schema(_columns(schema, views), *fields)


def _write(reader: pa.RecordBatchReader, types: pa.Schema, out: Path, schema: Schema) -> tuple[int, int]:
    rows = labelled = 0
    with replacing(out) as partial, pq.ParquetWriter(partial, types) as writer:
        for batch in reader:
            columns = (_typed(values, kind) for values, kind in zip(batch.columns, types.types, strict=True))
            table = pa.table(list(columns), types)
            writer.write_table(table)
            rows += table.num_rows
            labelled += table.num_rows - table[schema.event_id].null_count
    return rows, labelled


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in their declared type; DuckDB gives a column of nulls another one."""
    return pa.nulls(len(values), kind) if values.null_count == len(values) else values.cast(kind)
