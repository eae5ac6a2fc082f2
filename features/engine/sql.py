"""Quoting of names, values and paths in SQL statements."""

from collections.abc import Iterable
from pathlib import Path


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


def parquet(path: Path) -> str:
    """A table function that reads the Parquet file `path`, or all files of a pattern; folder names give no columns."""
    return f"read_parquet({literal(path)}, hive_partitioning = false)"


def escape_glob(path: str) -> str:
    """A path in which DuckDB sees no pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)
