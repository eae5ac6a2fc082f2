"""The rows of a window, for the statements that count them: the training rows, or those of a drift report."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from common import stored_files
from common.errors import SchemaError
from features.encoding.histograms import Days
from features.engine import sql
from features.engine.connection import connect
from features.engine.engines import DuckDBEngine
from features.engine.protocol import Engine
from features.schema import Schema

MEMORY_SHARE = 3 / 4  # of DuckDB: the counts lie beside it


@contextmanager
def counting_engine(engine: Engine | None) -> Iterator[Engine]:
    """The engine, or DuckDB until the block ends."""
    if engine is not None:
        yield engine
        return
    with TemporaryDirectory() as scratch, connect(Path(scratch), share=MEMORY_SHARE) as connection:
        yield DuckDBEngine(connection)


def files_of(rows: Path) -> list[str]:
    """Paths or URLs of the Parquet file `rows`, or of those that it matches as a pattern of files in one folder."""
    return stored_files.files_of(rows) if _is_one(rows) else list(map(str, sorted(rows.parent.glob(rows.name))))


def select_rows(rows: Path, schema: Schema, days: Days | None = None) -> str:
    """SQL of DuckDB: the rows of the Parquet file(s) `rows` (a path or a pattern), all or those of some days."""
    source = sql.parquet(rows) if _is_one(rows) else sql.parquet(rows.parent, rows.name)
    return f"select * from {source}{_within(schema, days)}"


def read_window(engine: Engine, name: str, rows: Path, schema: Schema, days: Days | None = None) -> None:
    """Define the relation `name`: the rows of the Parquet file(s) `rows`, all or those of some days."""
    files = f"{name}_files"
    engine.read(files, *((rows,) if _is_one(rows) else (rows.parent, rows.name)))
    engine.define(name, f"select * from {files}{_within(schema, days)}")


def define_rows(
    engine: Engine, rows: Path, schema: Schema, first: date, *, period_days: int = 1, days: Days | None = None
) -> None:
    """Define the relation `rows`: a window with the index of the scenario, the day since `first` and the period."""
    read_window(engine, "__window", rows, schema, days)
    cases = " ".join(f"when {sql.literal(name)} then {index}" for index, name in enumerate(schema.scenarios))
    start = f"date_diff('day', date '1970-01-01', date '{first}')"
    engine.define(
        "rows",
        f"""select *, __day // {period_days} as __period
            from (select *, case {sql.column(schema.scenario)}::varchar {cases} end as __scenario,
                         __date - {start} as __day
                  from (select *, {day_of_impression(schema)} as __date from __window))""",
    )


def day_span(rows: Path, schema: Schema, days: Days | None = None, engine: Engine | None = None) -> Days:
    """First and last day of the Parquet file(s) `rows`; raises SchemaError where there are no rows."""
    day = f"{sql.column(schema.timestamp)}::date"
    with counting_engine(engine) as opened:
        read_window(opened, "__spanned", rows, schema, days)
        ((first, last),) = opened.rows(f"select min({day}), max({day}) from __spanned")
    if first is None:
        between = f" from {days[0]} to {days[1]}" if days else ""
        raise SchemaError(f"{rows} holds no rows{between}: there is nothing to make histograms of")
    return first, last


def day_of_impression(schema: Schema) -> str:
    """SQL: days from 1970 to the impression."""
    return f"date_diff('day', date '1970-01-01', {sql.column(schema.timestamp)}::date)"


def _is_one(rows: Path) -> bool:
    """Whether `rows` is a file, here or elsewhere, and no pattern."""
    return rows.exists() or stored_files.is_stored(rows)


def _within(schema: Schema, days: Days | None) -> str:
    """SQL: the condition that a row is of these days."""
    if days is None:
        return ""
    first, last = (f"date {sql.literal(day)}" for day in days)
    return f" where {sql.column(schema.timestamp)}::date between {first} and {last}"
