"""What the values of a raw column are like: type, number of different values, extremes, examples."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from common.errors import SourceError
from features.datasets.declared.expressions import source
from features.engine import sql
from features.engine.connection import connect

EXAMPLES = 30  # different values of a column that are kept, the most frequent first
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")


@dataclass(frozen=True, kw_only=True)
class RawColumn:
    """A column of the files.

    Args:
        name: Its name.
        type: DuckDB's type.
        rows: Rows of the table.
        nulls: Rows without a value.
        distinct: Number of different values.
        least: The least value; None where there is no order or no value.
        largest: The largest value.
        whole: Whether no number has a fraction.
        examples: The most frequent values, at most EXAMPLES.
    """

    name: str
    type: str
    rows: int
    nulls: int
    distinct: int
    least: object
    largest: object
    whole: bool
    examples: tuple[object, ...]

    @property
    def words(self) -> set[str]:
        """The words of the name in lower case: `isClick`, `is_click` and `is-click` have the same."""
        return {word.lower() for word in _WORD.findall(self.name)} | {self.name.lower()}

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return self.type in _INTEGERS

    @property
    def is_whole(self) -> bool:
        """Whether the values are numbers without a fraction, in whatever type."""
        return self.is_integer or (self.is_number and self.whole)

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return self.is_integer or self.type in ("FLOAT", "DOUBLE") or self.type.startswith("DECIMAL")

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.type in ("VARCHAR", "UUID") or self.type.startswith("ENUM")

    @property
    def is_list(self) -> bool:
        """Whether a row has a list of values."""
        return self.type.endswith("[]")

    @property
    def is_flag(self) -> bool:
        """Whether the values are 0 and 1, or true and false."""
        return self.type == "BOOLEAN" or (self.is_number and set(self.examples) == {0, 1})

    @property
    def is_unique(self) -> bool:
        """Whether every row has another value."""
        return self.nulls == 0 and self.distinct == self.rows


@dataclass(frozen=True, kw_only=True)
class RawTable:
    """Files of one table: those with the same columns, in the order in which they were named."""

    files: list[str]
    columns: tuple[RawColumn, ...]
    rows: int = field(default=0)

    def column(self, name: str) -> RawColumn | None:
        """The column of this name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


def raw_tables(files: list[str]) -> list[RawTable]:
    """The tables in `files`: files with the same columns are one table; raises SourceError for what is not readable."""
    if not files:
        raise SourceError(
            "expected the files of a log, found none: python -m features.draft FILE... --out dataset.yaml"
        )
    grouped: dict[tuple[str, ...], list[str]] = {}
    with connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for file in files:
            grouped.setdefault(tuple(_names(connection, file)), []).append(file)
        return [_table(connection, group) for group in grouped.values()]


def _names(connection: duckdb.DuckDBPyConnection, file: str) -> Iterator[str]:
    try:
        rows = connection.execute(f"describe select * from {_source(connection, [file])}").fetchall()
    except duckdb.Error as error:
        raise SourceError(f"{file} cannot be read: {str(error).strip()}") from error
    return (str(row[0]) for row in rows)


def _source(connection: duckdb.DuckDBPyConnection, files: list[str]) -> str:
    return source(connection, [_absolute(file) for file in files], Path("dataset.yaml"))


def _absolute(file: str) -> str:
    return file if "://" in file else str(Path(file).absolute())


def _table(connection: duckdb.DuckDBPyConnection, files: list[str]) -> RawTable:
    rows_of = "raw"  # read once: each column is looked at twice
    try:
        connection.execute(f"create or replace temp table {rows_of} as select * from {_source(connection, files)}")
        summary = connection.execute(
            f"select column_name, column_type, null_percentage, count from (summarize select * from {rows_of})"
        ).fetchall()
        columns = tuple(_column(connection, rows_of, *row) for row in summary)
    except duckdb.Error as error:
        raise SourceError(f"{files[0]} cannot be read: {str(error).strip()}") from error
    return RawTable(files=files, columns=columns, rows=columns[0].rows if columns else 0)


def _column(
    connection: duckdb.DuckDBPyConnection, rows_of: str, name: str, kind: str, null_share: float, rows: int
) -> RawColumn:
    quoted = sql.column(name)
    ordered = not (kind.endswith("[]") or kind.startswith(("STRUCT", "MAP")))
    extremes = f"min({quoted}), max({quoted})" if ordered else "null, null"
    is_float = kind in ("FLOAT", "DOUBLE") or kind.startswith("DECIMAL")
    whole = f"coalesce(bool_and({quoted} = trunc({quoted})), false)" if is_float else "false"
    measured = connection.execute(f"select count(distinct {quoted}), {extremes}, {whole} from {rows_of}").fetchone()
    distinct, least, largest, is_whole = measured or (0, None, None, False)
    known = f"select {quoted} as value from {rows_of} where {quoted} is not null"
    examples = connection.execute(
        f"select value from ({known}) group by value order by count(*) desc, value limit {EXAMPLES}"
    ).fetchall()
    return RawColumn(
        name=name,
        type="TIMESTAMP WITH TIME ZONE" if kind == "TIMESTAMPTZ" else kind,
        rows=rows,
        nulls=round(float(null_share) / 100 * rows),
        distinct=distinct,
        least=least,
        largest=largest,
        whole=is_whole,
        examples=tuple(row[0] for row in examples),
    )
