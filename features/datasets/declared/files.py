"""The files of a declared log as a table of DuckDB: Parquet, text with delimiters, JSON; local, s3:// or https://."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import fsspec

from common.errors import SourceError
from features.engine import sql

Option = bool | int | float | str | list[str] | dict[str, str]
FORMATS = {  # by how the name of a file ends, compressed or not
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_EVERY_ROW: dict[str, Option] = {"sample_size": -1}  # types and delimiters are those that fit all rows
_NO_ROW_SKIPPED: dict[str, Option] = {"skip": 0, "comment": ""}  # DuckDB skips first rows that do not fit the others
_EMPTY = "(empty)"  # as DuckDB says that there is no such character
_COMPRESSED = (".gz", ".zst")
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_REMOTE = ("s3", "http", "https")


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of a table.

    Args:
        patterns: Paths (relative to the folder of the declaration), globs, s3:// or https://.
        format: `parquet`, `csv` or `json`; None: by the ending of the names.
        options: Of DuckDB's reader of that format, such as delim, header, names, encoding.
    """

    patterns: tuple[str, ...]
    format: str | None = None
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Files whose format and columns are known.

    Args:
        format: The format of all of them.
        names: The files, in the order of their rows.
        options: Of DuckDB's reader of that format; of text with delimiters also these, as they are in the first file.
        types: DuckDB's type of each column, the one that fits all rows.
    """

    format: str
    names: list[str]
    options: Mapping[str, Option]
    types: Mapping[str, str]

    def table(self, texts: Iterable[str] = ()) -> str:
        """SQL: the rows; columns in `texts` are read as they are written: as a number, 007 would be 7."""
        if self.format == "parquet":
            return _read(self.format, self.names, self.options)
        if self.format == "json":
            return _read(self.format, self.names, {**self.options, "columns": dict(self.types)})
        declared = self.options.get("types")
        types = {**self.types, **dict.fromkeys(set(texts) & set(self.types), "VARCHAR")}
        types |= declared if isinstance(declared, dict) else {}
        return _read(self.format, self.names, {**self.options, "types": types})


def source(connection: duckdb.DuckDBPyConnection, files: Files, declaration: Path) -> Source:
    """Look at `files` (relative to the folder of `declaration`): every row of text with delimiters or JSON is read.

    Raises SourceError where a pattern matches no file, or files are of several formats or of none that is known.
    """
    names = [name for pattern in files.patterns for name in _matching(connection, pattern, declaration)]
    kind = files.format or _format(names, declaration)
    if kind == "parquet":
        options: dict[str, Option] = {"union_by_name": True, **files.options}
        return Source(format=kind, names=names, options=options, types=_types(connection, _read(kind, names, options)))
    options = _delimiters(connection, names[0], files.options) if kind == "csv" else dict(files.options)
    types = _types(connection, _read(kind, names, {**options, **_EVERY_ROW}))
    return Source(format=kind, names=names, options=options, types=types)


def _types(connection: duckdb.DuckDBPyConnection, read: str) -> dict[str, str]:
    return {str(name): str(kind) for name, kind, *_ in connection.execute(f"describe from {read}").fetchall()}


def _delimiters(connection: duckdb.DuckDBPyConnection, name: str, given: Mapping[str, Option]) -> dict[str, Option]:
    """The options of the reader of CSV, with delimiter, quotes and header as they are in the file `name`.

    They are those of all files of the table: a file with others is an error, not a table of empty values.
    """
    options = {**_NO_ROW_SKIPPED, **given}
    sniff = _call("sniff_csv", _value(name), {**options, **_EVERY_ROW})
    row = connection.execute(f"select Delimiter, Quote, Escape, HasHeader from {sniff}").fetchone() or ()
    delimiter, quote, escape, header = ("" if value == _EMPTY else value for value in row)
    return {"delim": delimiter, "quote": quote, "escape": escape, "header": header, "union_by_name": True, **options}


def ending(name: str) -> str:
    """The ending of a file's name in lower case, without that of a compression."""
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in _COMPRESSED]
    return suffixes[-1].lower() if suffixes else ""


def refuse_archive(name: str) -> None:
    """Raise SourceError for a file that holds others."""
    if ending(name) in _ARCHIVES:
        raise SourceError(f"{name} is an archive: unpack it first")


def _format(names: list[str], declaration: Path) -> str:
    endings = {ending(name) for name in names}
    for name in names:
        refuse_archive(name)
    formats = {FORMATS.get(one) for one in endings}
    if len(formats) != 1 or None in formats:
        raise SourceError(
            f"{declaration}: files {names}: expected one format of {list(FORMATS)}, found {sorted(endings)}; "
            "for other endings say `format: csv` (or json, parquet) beside `files`"
        )
    return str(formats.pop())


def _read(kind: str, names: list[str], options: Mapping[str, Option]) -> str:
    """SQL: the call of DuckDB's reader of a format."""
    lines = kind == "json" and all(ending(name) in (".jsonl", ".ndjson") for name in names)
    return _call(f"read_{kind}", _value(names), {"format": "newline_delimited", **options} if lines else options)


def _call(function: str, files: str, options: Mapping[str, Option]) -> str:
    return f"{function}({', '.join([files, *(f'{sql.column(n)} = {_value(v)}' for n, v in options.items())])})"


def _value(value: Option) -> str:
    """SQL: the value of an option."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{sql.literal(name)}: {sql.literal(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(sql.literal, value)) + "]"
    return sql.literal(value) if isinstance(value, str) else str(value).lower()


def _matching(connection: duckdb.DuckDBPyConnection, pattern: str, declaration: Path) -> list[str]:
    scheme = pattern.partition("://")[0]
    if scheme in _REMOTE:
        if not connection.filesystem_is_registered(scheme):
            connection.register_filesystem(fsspec.filesystem(scheme))
        return [pattern]
    folder = declaration.parent
    path = folder / pattern
    matches = [path] if path.is_file() else sorted(folder.glob(pattern))
    if not matches:
        raise SourceError(f"{declaration}: no file matches {pattern!r} in {folder.absolute()}")
    return [sql.as_pattern(name) for name in matches]
