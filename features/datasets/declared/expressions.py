"""SQL of a declared log: its files as a table, and values in their declared types, exactly or not at all."""

from pathlib import Path

import duckdb
import fsspec

from common.errors import SourceError
from features.engine import sql
from features.schema import Column, DType

READERS = {  # by how the name of a file ends, compressed or not: {types} are those that were seen in all rows
    ".parquet": "read_parquet({files}, union_by_name = true)",
    ".csv": "read_csv({files}, union_by_name = true, {types})",
    ".tsv": "read_csv({files}, union_by_name = true, {types})",
    ".jsonl": "read_json({files}, format = 'newline_delimited', {types})",
    ".ndjson": "read_json({files}, format = 'newline_delimited', {types})",
    ".json": "read_json({files}, {types})",
}
_COMPRESSED = (".gz", ".zst")
_REMOTE = ("s3", "http", "https")
_EXACT_DOUBLE = 2**53  # beyond it a float64 does not hold every integer
_SQL_TYPES = {
    DType.INT8: "tinyint",
    DType.INT64: "bigint",
    DType.FLOAT32: "float",
    DType.STRING: "varchar",
    DType.TIMESTAMP: "timestamp",
    DType.INT64_LIST: "bigint[]",
    DType.STRING_LIST: "varchar[]",
}


def source(connection: duckdb.DuckDBPyConnection, files: list[str], declaration: Path) -> str:
    """SQL: the rows of `files` (relative to the folder of `declaration`) as one table, in the order of their names.

    Raises SourceError where a pattern matches no file, or files are of several formats or of none that is known.
    """
    names = [name for pattern in files for name in _matching(connection, pattern, declaration)]
    endings = {_ending(name) for name in names}
    if len(endings) != 1 or not endings <= set(READERS):
        raise SourceError(
            f"{declaration}: files {files}: expected one format of {list(READERS)}, found {sorted(endings)}"
        )
    listed = "[" + ", ".join(map(sql.literal, names)) + "]"
    reader = READERS[endings.pop()]
    whole = reader.format(files=listed, types="sample_size = -1")
    if "{types}" not in reader:
        return whole
    types = connection.execute(f"describe select * from {whole}").fetchall()
    pinned = ", ".join(f"{sql.literal(name)}: {sql.literal(kind)}" for name, kind, *_ in types)
    key = "types" if reader.startswith("read_csv") else "columns"
    return reader.format(files=listed, types=f"{key} = {{{pinned}}}")


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


def _ending(name: str) -> str:
    suffixes = [suffix for suffix in Path(name).suffixes if suffix not in _COMPRESSED]
    return suffixes[-1].lower() if suffixes else ""


def exact(expression: str, raw_type: str, column: Column, time_zone: str) -> str:
    """SQL: an expression of DuckDB's type `raw_type` in the type of `column`; nothing is rounded or cut off.

    A number with a fraction in an integer column, a text that is no number, and a timestamp given as a number are
    errors of the statement, which say so.
    """
    target = _SQL_TYPES[column.dtype]
    if column.dtype is DType.TIMESTAMP:
        return _timestamp(expression, raw_type, column.name, time_zone)
    whole = _whole(expression, raw_type) if column.dtype in (DType.INT8, DType.INT64) else None
    if whole is None:
        return f"({expression})::{target}"
    message = sql.literal(f"column {column.name} is {column.dtype}, found ")
    refused = f"error({message} || ({expression})::varchar)"
    return f"(case when ({expression}) is null or {whole} then ({expression})::{target} else {refused} end)"


def _whole(expression: str, raw_type: str) -> str | None:
    """SQL: whether a value is an integer that its type holds exactly; None where every value of the type is."""
    if raw_type == "VARCHAR":
        return f"regexp_full_match(trim({expression}), '[+-]?[0-9]+')"
    if raw_type in ("DOUBLE", "FLOAT"):
        return f"(({expression}) = trunc({expression}) and abs({expression}) <= {_EXACT_DOUBLE})"
    return f"({expression}) = trunc({expression})" if raw_type.startswith("DECIMAL") else None


def _timestamp(expression: str, raw_type: str, name: str, time_zone: str) -> str:
    """SQL: a timestamp in UTC; one without a zone is of `time_zone`."""
    if raw_type == "TIMESTAMP WITH TIME ZONE":
        return f"({expression})::timestamp"
    if raw_type in ("BIGINT", "INTEGER", "UBIGINT", "UINTEGER", "DOUBLE", "HUGEINT"):
        raise SourceError(
            f"column {name}: a timestamp, found numbers ({raw_type.lower()}): say what they are, such as "
            f"`sql: to_timestamp({name})` for seconds since 1970 or `sql: epoch_ms({name})` for milliseconds"
        )
    return f"timezone({sql.literal(time_zone)}, ({expression})::timestamp)::timestamp"
