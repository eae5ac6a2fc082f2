"""SQL of a declared log: values in their declared types, exactly or not at all."""

from common.errors import SourceError
from features.datasets.typed_columns import EXACT
from features.engine import duckdb_types, sql
from features.schema import Column, DType

_SQL_TYPES = {
    DType.INT8: "tinyint",
    DType.INT64: "bigint",
    DType.FLOAT32: "float",
    DType.STRING: "varchar",
    DType.TIMESTAMP: "timestamp",
    DType.INT64_LIST: "bigint[]",
    DType.STRING_LIST: "varchar[]",
    DType.FLOAT32_LIST: "float[]",
}


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
    if duckdb_types.is_float(raw_type):
        return f"(({expression}) = trunc({expression}) and abs({expression}) < {EXACT})"
    return f"({expression}) = trunc({expression})" if duckdb_types.is_decimal(raw_type) else None


def _timestamp(expression: str, raw_type: str, name: str, time_zone: str) -> str:
    """SQL: a timestamp in UTC; one without a zone is of `time_zone`."""
    if raw_type == "TIMESTAMP WITH TIME ZONE":
        return f"({expression})::timestamp"
    if duckdb_types.is_number(raw_type):
        raise SourceError(
            f"column {name}: a timestamp, found numbers ({raw_type.lower()}): say what they are, such as "
            f"`sql: to_timestamp({name})` for seconds since 1970 or `sql: epoch_ms({name})` for milliseconds"
        )
    return f"timezone({sql.literal(time_zone)}, ({expression})::timestamp)::timestamp"
