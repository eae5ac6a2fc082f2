"""Quoting of names, values and paths in SQL statements: every name that a user declares passes through `column`.

Names that a statement itself gives begin with `__` (features/schema/names.py), so that they never equal a declared one.
"""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from common.stored_files import files_of


def column(name: str) -> str:
    """A column or table name as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def columns(names: Iterable[str]) -> str:
    """Column names as a comma-separated list of quoted identifiers."""
    return ", ".join(map(column, names))


def literal(value: object) -> str:
    """A text, date or path as a quoted literal."""
    text = value.as_posix() if isinstance(value, Path) else str(value)
    return "'" + text.replace("'", "''") + "'"


def number(value: float) -> str:
    """A finite number as a literal in double precision; one without an exponent would be a decimal."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def by_decimals(values: Iterable[float]) -> list[str]:
    """Literals of the numbers that DuckDB makes of these, written as decimals: some differ in their last bits.

    The histograms of released models are counted so, and a window is comparable only where it is counted alike.
    """
    decimals = ", ".join(f"({value!r})::double" for value in values)
    return [number(value) for value in duckdb.execute(f"select {decimals}").fetchone() or ()]


def rounded(value: str) -> str:
    """SQL: a number as the nearest integer, the even one of two: engines differ in the cast of a fraction."""
    return f"round_even({value}, 0)::bigint"


def parquet(path: Path, pattern: str | None = None) -> str:
    """A table function that reads the Parquet file `path`, or the files in the folder `path` that match `pattern`.

    Folder names give no columns, and `*`, `?` and `[` in `path` stand for themselves.
    """
    files = files_of(path) if pattern is None else sorted(path.glob(pattern))
    names = [literal(as_pattern(file)) for file in files] or [literal(path / str(pattern))]  # DuckDB's error names it
    return f"read_parquet([{', '.join(names)}], hive_partitioning = false)"


def parquet_by_name(files: Iterable[Path]) -> str:
    """A table function that reads Parquet files of which some lack columns: these are null there."""
    names = ", ".join(literal(as_pattern(file)) for file in files)
    return f"read_parquet([{names}], union_by_name = true, hive_partitioning = false)"


def as_pattern(path: Path | str) -> str:
    """The pattern that only this path or URL matches: DuckDB takes every one that it reads for a pattern."""
    text = path.as_posix() if isinstance(path, Path) else path
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
