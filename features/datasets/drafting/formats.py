"""How a file of a log is read: what its ending does not say is seen in its first rows."""

import re
from pathlib import Path

import duckdb

from common.errors import SourceError
from features.datasets.declared.files import FORMATS, Files, Option, ending, refuse_archive
from features.engine import sql

_DELIMITERS = ("", "::")  # what DuckDB finds by itself, and what it does not try
_ENCODINGS = ("utf-8", "latin-1")
_NUMBER = re.compile(r"[+-]?[0-9.]+")


def files_of(connection: duckdb.DuckDBPyConnection, argument: str) -> Files:
    """The file of an argument, `FILE` or `FILE=NAME,NAME,...`, and the options of DuckDB's reader that it needs.

    Raises SourceError for a text file without a header whose columns have no names.
    """
    file, names = _parts(argument)
    if "://" in file:
        return Files(patterns=(file,))
    file = str(Path(file).absolute())
    refuse_archive(file)
    known = FORMATS.get(ending(file))
    if known not in (None, "csv") or not Path(file).is_file():
        return Files(patterns=(file,))
    sniffed, columns, has_header = _sniff(connection, file)
    if not has_header and names is None:
        raise SourceError(
            f"{file} has no header, and {len(columns)} columns, the first row: {_first_row(file, sniffed)}. "
            f"Name them: {argument}=user_id,item_id,..."
        )
    if known and has_header and names is None:
        return Files(patterns=(file,))
    options: dict[str, Option] = {**sniffed, "header": has_header, **({} if names is None else {"names": names})}
    return Files(patterns=(file,), format=None if known else "csv", options=options)


def _parts(argument: str) -> tuple[str, list[str] | None]:
    """The file and the names of its columns; a path may hold `=`, too."""
    file, sign, names = argument.rpartition("=")
    if not sign or Path(argument).is_file() or not Path(file).is_file():
        return argument, None
    return file, [name.strip() for name in names.split(",")]


Sniffed = tuple[dict[str, Option], list[str], bool]


def _sniff(connection: duckdb.DuckDBPyConnection, file: str) -> Sniffed:
    """Delimiter (and encoding) with which the rows have most columns, the names of these, whether they are a header."""
    tried = [_try(connection, file, delimiter, encoding) for delimiter in _DELIMITERS for encoding in _ENCODINGS]
    if not any(tried):
        raise SourceError(f"{file} is no text with delimiters: expected Parquet, CSV or JSON lines")
    return max(filter(None, tried), key=lambda sniffed: len(sniffed[1]))


def _try(connection: duckdb.DuckDBPyConnection, file: str, delimiter: str, encoding: str) -> Sniffed | None:
    given = f", delim = {sql.literal(delimiter)}" if delimiter else ""
    sniffed = f"{sql.literal(sql.as_pattern(Path(file)))}, encoding = '{encoding}', skip = 0, comment = ''{given}"
    call = f"select Delimiter, HasHeader, Columns from sniff_csv({sniffed})"
    try:
        delim, header, columns = connection.execute(call).fetchall()[0]
    except duckdb.Error:
        return None
    names = [str(column["name"]) for column in columns]
    options: dict[str, Option] = {"delim": str(delim)}
    options |= {} if encoding == _ENCODINGS[0] else {"encoding": encoding}
    return options, names, bool(header) and not any(_NUMBER.fullmatch(name) for name in names)


def _first_row(file: str, options: dict[str, Option]) -> str:
    with Path(file).open(encoding=str(options.get("encoding", "utf-8")), errors="replace") as lines:
        return " | ".join(next(lines).rstrip("\n").split(str(options["delim"])))[:200]
