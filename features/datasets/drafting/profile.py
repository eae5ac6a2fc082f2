"""What the values of a raw column are like: type, number of different values, extremes, examples."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from common.errors import SourceError
from features.datasets.declared.files import Files, Source, source
from features.datasets.drafting.formats import files_of
from features.engine import duckdb_types, sql
from features.engine.connection import connect

_HERE = Path("dataset.yaml")
EXAMPLES = 30  # different values of a column that are kept, the most frequent first
TIME_FORMATS = (  # of texts that DuckDB does not take for times by itself
    "%m/%d/%Y %I:%M:%S %p",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M",
    "%Y%m%d%H%M%S",
    "%a %b %d %H:%M:%S %Y",
)
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
        determines: Flags and ratings of the same row that follow from the value: where one is a label, this leaks it.
        time_format: Of texts: how strptime reads every one of them as a time; empty where it does not.
        vector_length: Of lists of numbers with a fraction (or texts that are): how many all of them have; else None.
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
    time_format: str = ""
    determines: tuple[str, ...] = ()
    vector_length: int | None = None

    @property
    def words(self) -> set[str]:
        """The words of the name in lower case: `isClick`, `is_click` and `is-click` have the same."""
        return {word.lower() for word in _WORD.findall(self.name)} | {self.name.lower()}

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return duckdb_types.is_integer(self.type)

    @property
    def is_whole(self) -> bool:
        """Whether the values are numbers without a fraction, in whatever type."""
        return self.is_integer or (self.is_number and self.whole)

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers."""
        return duckdb_types.is_number(self.type)

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return self.type in ("VARCHAR", "UUID") or self.type.startswith("ENUM")

    @property
    def is_list(self) -> bool:
        """Whether a row has a list of values."""
        return self.type.endswith("]")

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

    files: Files
    columns: tuple[RawColumn, ...]
    rows: int

    def column(self, name: str) -> RawColumn | None:
        """The column of this name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


def raw_tables(files: list[str]) -> list[RawTable]:
    """The tables in `files`: files with the same columns are one table; raises SourceError for what is not readable."""
    if not files:
        raise SourceError(
            "expected the files of a log, found none: python -m features.draft FILE... --out dataset.yaml"
        )
    grouped: dict[tuple[str, ...], list[tuple[Files, Source]]] = {}
    with connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for argument in files:
            read = files_of(connection, argument)
            seen = _look(connection, read)
            grouped.setdefault(tuple(seen.types), []).append((read, seen))
        return [_table(connection, *_together(connection, group)) for group in grouped.values()]


def _together(connection: duckdb.DuckDBPyConnection, group: list[tuple[Files, Source]]) -> tuple[Files, Source]:
    """Files with the same columns as those of one table, read as the first."""
    if len(group) == 1:
        return group[0]
    files = replace(group[0][0], patterns=tuple(name for files, _ in group for name in files.patterns))
    return files, _look(connection, files)


def _look(connection: duckdb.DuckDBPyConnection, files: Files) -> Source:
    with _errors(files):
        return source(connection, files, _HERE)


@contextmanager
def _errors(files: Files) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(f"{files.patterns[0]} cannot be read: {str(error).strip()}") from error


def _table(connection: duckdb.DuckDBPyConnection, files: Files, seen: Source) -> RawTable:
    rows_of = "raw"  # read once: each column is looked at twice
    with _errors(files):
        raw = seen.table(_with_leading_zeros(connection, seen))
        connection.execute(f"create or replace temp table {rows_of} as from {raw}")
        summary = connection.execute(
            f"select column_name, column_type, null_percentage, count from (summarize select * from {rows_of})"
        ).fetchall()
        columns = _determining(connection, rows_of, [_column(connection, rows_of, *row) for row in summary])
    return RawTable(files=files, columns=columns, rows=columns[0].rows if columns else 0)


def _determining(
    connection: duckdb.DuckDBPyConnection, rows_of: str, columns: list[RawColumn]
) -> tuple[RawColumn, ...]:
    """The columns, each with the few-valued ones that follow from it: it has one value of them for each of its own."""
    few = [column for column in columns if 2 <= column.distinct <= EXAMPLES]
    pairs = [(one, other) for one in few for other in few if one is not other]
    if not pairs:
        return tuple(columns)
    counts = ", ".join(f"count(distinct ({sql.columns([one.name, other.name])}))" for one, other in pairs)
    row = connection.execute(f"select {counts} from {rows_of}").fetchone() or ()
    follow = [
        (one, other.name) for (one, other), n in zip(pairs, row, strict=True) if n == one.distinct + bool(one.nulls)
    ]
    return tuple(replace(c, determines=tuple(name for one, name in follow if one is c)) for c in columns)


def _with_leading_zeros(connection: duckdb.DuckDBPyConnection, seen: Source) -> list[str]:
    """The columns of integers that are texts in truth: 007 and 7 are two values."""
    integers = [name for name, kind in seen.types.items() if duckdb_types.is_integer(kind)]
    if seen.format != "csv" or not integers:
        return []
    zeros_in = ", ".join(f"bool_or(regexp_matches({sql.column(n)}::varchar, '^[+-]?0[0-9]'))" for n in integers)
    row = connection.execute(f"select {zeros_in} from {seen.table(integers)} as __raw").fetchone() or ()
    return [name for name, zeros in zip(integers, row, strict=True) if zeros]


def _column(
    connection: duckdb.DuckDBPyConnection, rows_of: str, name: str, kind: str, null_share: float, rows: int
) -> RawColumn:
    quoted = sql.column(name)
    ordered = not (kind.endswith("]") or kind.startswith(("STRUCT", "MAP")))
    extremes = f"min({quoted}), max({quoted})" if ordered else "null, null"
    has_fractions = duckdb_types.is_float(kind) or duckdb_types.is_decimal(kind)
    whole = f"coalesce(bool_and({quoted} = trunc({quoted})), false)" if has_fractions else "false"
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
        time_format=_time_format(connection, rows_of, quoted) if kind == "VARCHAR" and distinct else "",
        vector_length=_length_of_texts(examples) if kind == "VARCHAR" else _length(connection, rows_of, quoted, kind),
    )


def _time_format(connection: duckdb.DuckDBPyConnection, rows_of: str, quoted: str) -> str:
    """The format in which all texts of a column are times; empty where there is none."""
    fits = ", ".join(f"bool_and(try_strptime({quoted}, {sql.literal(one)}) is not null)" for one in TIME_FORMATS)
    row = connection.execute(f"select {fits} from {rows_of} where {quoted} is not null").fetchone() or ()
    return next((one for one, fit in zip(TIME_FORMATS, row, strict=True) if fit), "")


def _length(connection: duckdb.DuckDBPyConnection, rows_of: str, column: str, kind: str) -> int | None:
    """The number of elements of each of the lists, where they are of floats and all have as many; else None."""
    if not kind.startswith(("FLOAT[", "DOUBLE[", "DECIMAL")) or not kind.endswith("]"):
        return None
    row = connection.execute(f"select min(len({column})), max(len({column})) from {rows_of}").fetchone()
    least, largest = row or (None, None)
    return int(largest) if largest and least == largest else None


def _length_of_texts(examples: list[tuple[str]]) -> int | None:
    """The same of texts that are lists as JSON has them."""
    try:
        lists = [json.loads(text) for (text,) in examples]
    except ValueError:
        return None
    if not lists or not all(isinstance(one, list) and one and len(one) == len(lists[0]) for one in lists):
        return None
    types = {type(number) for one in lists for number in one}
    return len(lists[0]) if float in types and types <= {int, float} else None
