"""What the service served, as a window of rows with the columns of the training set, and the labels that came later.

    python -m monitoring.impression_window --log DIR --events data/validated/events --schema data/schema.json
        --views data/features/views.json --first-day 2026-01-17 --last-day 2026-01-18 --out served.parquet

The file is a `--current` of monitoring.drift. The log of the service (serving/telemetry/impression_log.py) holds features and
probabilities; the events of the log that `validate` accepted hold what came of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from common import stage
from common.errors import SourceError
from features.engine.arrow_types import arrow_schema
from features.schema import Column, Role, Schema, View, read_schema, read_views

ROWS = 131_072  # of a row group, and of what is in memory at once
MEMORY = "2GB"  # of DuckDB, while it joins
REQUEST, MOMENT, PLACE, MODEL, SCORE = "request_id", "served_at", "place", "model_tag", "score_"
_LATER = (Role.EVENT_ID, Role.LABEL, Role.CHOICE_SET)  # what only the event knows


def served(
    *,
    log: Path,
    events: Path,
    schema: Path,
    views: Path,
    first_day: date,
    last_day: date,
    out: Path,
    match_minutes: float = 60,
) -> None:
    """Write what was served in these days (UTC), with the labels that have arrived, to the Parquet file `out`."""
    rows, labelled = served_window(
        log,
        events,
        read_schema(schema),
        read_views(views),
        first_day=first_day,
        last_day=last_day,
        out=out,
        match_minutes=match_minutes,
    )
    print(f"served: {rows:,} scored items from {first_day} to {last_day}, {labelled:,} of them with an event -> {out}")


def served_window(
    folder: Path,
    events: Path,
    schema: Schema,
    views: tuple[View, ...],
    *,
    first_day: date,
    last_day: date,
    out: Path,
    match_minutes: float,
) -> tuple[int, int]:
    """Write what was served from `first_day` to `last_day` (both included, UTC) to the Parquet file `out`.

    One row per scored item, in order of time: the columns of the training set (events, then views), `score_<task>`,
    request_id and model_tag. Labels are those of the first event (`events`: a folder of days) of the same user, item
    and scenario within `match_minutes` from the moment of the answer on; null where none has arrived, as are columns
    that the model does not read. Returns how many rows there are, and how many with an event. Raises SourceError.
    """
    served = _files(folder, "day={}/hour=*/*.parquet", first_day, last_day)
    if not served:
        raise SourceError(
            f"{folder} holds nothing that was served from {first_day} to {last_day}: set serve.log.folder (or "
            "HINET_SERVED_LOG) where the service runs, and give that folder here"
        )
    until = last_day + timedelta(minutes=match_minutes) + timedelta(days=1)
    known = arrow_schema(schema.events).empty_table()
    with _connected(folder, served, _files(events, "day={}/*.parquet", first_day, until), known) as connection:
        found = {name for name, *_ in connection.execute("describe served").fetchall()}
        scores = sorted(name for name in found if name.startswith(SCORE))
        minutes = f"interval '{round(match_minutes * 60_000_000)} microseconds'"
        reader = connection.execute(_query(schema, views, found, scores, minutes)).to_arrow_reader(ROWS)
        return _write(reader, _types(schema, views, scores), out, schema)


def _files(folder: Path, pattern: str, first: date, last: date) -> list[str]:
    """The complete files of the days."""
    days = (first + timedelta(days=place) for place in range((last - first).days + 1))
    return [str(path) for day in days for path in sorted(folder.glob(pattern.format(day)))]


@contextmanager
def _connected(
    folder: Path, served: list[str], events: list[str], known: pa.Table
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with the relations `served` and `events` (`known`, of no rows, without a file)."""
    try:
        with duckdb.connect(config={"memory_limit": MEMORY}) as connection:
            for name, paths in (("served", served), ("events", events)):
                if paths:
                    connection.read_parquet(paths, union_by_name=True, hive_partitioning=False).create_view(name)
                else:
                    connection.register(name, known)
            yield connection
    except duckdb.Error as error:
        raise SourceError(f"what was served, in {folder}, cannot be joined with its events: {error}") from error


def _query(schema: Schema, views: tuple[View, ...], found: set[str], scores: list[str], minutes: str) -> str:
    columns = [_selected(column, found) for column in _columns(schema, views)]
    more = ", ".join([f'served."{name}"' for name in (*scores, REQUEST, MODEL)])
    same = " and ".join(f'served."{key}" = events."{key}"' for key in (schema.user, schema.item, schema.scenario))
    return f"""
        select {", ".join(columns)}, {more}
        from served asof left join events
          on {same} and served.{MOMENT} <= events."{schema.timestamp}"
        order by served.{MOMENT}, served.{REQUEST}, served.{PLACE}
    """.replace("{within}", f'events."{schema.timestamp}" <= served.{MOMENT} + {minutes}')


def _selected(column: Column, found: set[str]) -> str:
    name = f'"{column.name}"'
    if column.role is Role.TIMESTAMP:
        return f"served.{MOMENT} as {name}"
    if column.role in _LATER:
        return f"case when {{within}} then events.{name} end as {name}"
    return f"served.{name}" if column.name in found else f"null as {name}"


def _columns(schema: Schema, views: tuple[View, ...]) -> tuple[Column, ...]:
    """The columns of the training set."""
    return (*schema.events, *(column for view in views for column in view.columns))


def _types(schema: Schema, views: tuple[View, ...], scores: list[str]) -> pa.Schema:
    more = [(name, pa.float64()) for name in scores] + [(name, pa.string()) for name in (REQUEST, MODEL)]
    return arrow_schema(_columns(schema, views), *(pa.field(*pair) for pair in more))


def _write(reader: pa.RecordBatchReader, types: pa.Schema, out: Path, schema: Schema) -> tuple[int, int]:
    rows = labelled = 0
    with pq.ParquetWriter(out, types) as writer:
        for batch in reader:
            columns = (_typed(values, kind) for values, kind in zip(batch.columns, types.types, strict=True))
            table = pa.table(list(columns), types)
            writer.write_table(table)
            rows += table.num_rows
            labelled += table.num_rows - table[schema.event_id].null_count
    return rows, labelled


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in their declared type; a column of nulls alone has none of its own."""
    return pa.nulls(len(values), kind) if values.null_count == len(values) else values.cast(kind)


if __name__ == "__main__":
    stage.run(served)
