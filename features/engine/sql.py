"""Quoting of names, values and paths in SQL statements: every name that a user declares passes through `column`.

Names that a statement itself gives begin with `__` (features/schema/names.py), so that they never equal a declared one.
"""

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


def parquet(path: Path, pattern: str | None = None) -> str:
    """A table function that reads the Parquet file `path`, or the files in the folder `path` that match `pattern`.

    Folder names give no columns, and `*`, `?` and `[` in `path` stand for themselves.
    """
    files = [path] if pattern is None else sorted(path.glob(pattern))
    names = list(map(_file, files)) or [literal(path / str(pattern))]  # which DuckDB names where there is no file
    return f"read_parquet([{', '.join(names)}], hive_partitioning = false)"


def _file(path: Path) -> str:
    """The path of one file as a quoted literal; DuckDB takes paths for patterns."""
    return literal("".join(f"[{letter}]" if letter in "*?[" else letter for letter in path.as_posix()))
