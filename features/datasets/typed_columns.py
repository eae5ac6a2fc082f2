"""Raw columns of a reader as Arrow columns of their declared types: every value exact, or an error that names it.

What a float32 cannot hold is rounded, as its declaration says; nothing else is. Missing values (None, NaN, NaT, NA) are
null. Text is never read as a number nor a number as text: pandas guesses the type of each chunk of a CSV file anew, so
that one value would have two forms.
"""

from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from common.errors import SourceError
from features.datasets.timestamps import UNITS, likely_unit
from features.engine.arrow_types import TYPES
from features.schema import Column, DType

EXACT = 2**53  # from here on a float64 no longer holds every whole number
_ERRORS = (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError)


def typed_table(frame: pd.DataFrame, columns: tuple[Column, ...], where: str, first_row: int = 0) -> pa.Table:
    """`frame` as an Arrow table of the declared columns and types; nothing is truncated or filled in.

    Raises SourceError that names the column which is absent, there twice, or does not fit its type, and the first row
    (counted from `first_row`) that does not.
    """
    return pa.table({column.name: _column(frame, column, where, first_row) for column in columns})


def _column(frame: pd.DataFrame, column: Column, where: str, first_row: int) -> pa.Array:
    if (present := list(frame.columns).count(column.name)) != 1:
        fault = (
            "is declared, but its reader yields only" if not present else "is there more than once: its reader yields"
        )
        raise SourceError(f"{where}: column {column.name} {fault} {list(map(str, frame))}")
    values = frame[column.name]
    try:
        return typed_values(values, column.dtype)
    except _ERRORS as error:
        row, value, reason = _first_fault(values, column.dtype) or (None, None, str(error))
        example = "" if row is None else f", row {first_row + row}: {_shown(value)}"
        raise SourceError(
            f"{where}: column {column.name} does not fit its type {column.dtype}{example}: {reason}. "
            f"{_remedy(column.dtype, values)}"
        ) from error


def typed_values(values: pd.Series, dtype: DType) -> pa.Array:
    """The values in their declared type; raises one of _ERRORS where a value would be lost."""
    raw = _without_nan(pa.array(values, from_pandas=True))
    element, declared = _element(raw.type), _element(TYPES[dtype])
    if pt.is_list(TYPES[dtype]) != _is_list(raw.type) and not pt.is_null(raw.type):
        raise ValueError(f"expected {'a list' if pt.is_list(TYPES[dtype]) else 'one value'} in each row")
    if not pt.is_null(element) and not _ACCEPTED[dtype](element):
        raise ValueError(f"expected {declared}, found {raw.type}")
    if pt.is_floating(element) and pt.is_integer(declared):
        _refuse_rounded(raw)
    if dtype is DType.FLOAT32:
        return _without_nan(raw.cast(pa.float64(), safe=False).cast(declared, safe=False))
    if dtype is DType.FLOAT32_LIST:
        return raw.cast(pa.list_(pa.float64()), safe=False).cast(TYPES[dtype], safe=False)
    return raw.cast(TYPES[dtype])


def _element(kind: pa.DataType) -> pa.DataType:
    """The type of a value, of an element of a list, or of a value of a dictionary."""
    if _is_list(kind) or pt.is_dictionary(kind):
        return _element(kind.value_type)
    return kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind))


def _number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_decimal(kind))


def _text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _timestamp(kind: pa.DataType) -> bool:
    return bool(pt.is_timestamp(kind) or pt.is_date(kind) or _text(kind))


_ACCEPTED: dict[DType, Callable[[pa.DataType], bool]] = {
    DType.INT8: _number,
    DType.INT64: _number,
    DType.INT64_LIST: _number,
    DType.FLOAT32: _number,
    DType.FLOAT32_LIST: _number,
    DType.STRING: _text,
    DType.STRING_LIST: _text,
    DType.TIMESTAMP: _timestamp,
}


def _without_nan(values: pa.Array) -> pa.Array:
    """The values with null instead of NaN."""
    return pc.if_else(pc.is_nan(values), None, values) if pt.is_floating(values.type) else values


def _refuse_rounded(raw: pa.Array) -> None:
    """Raises ValueError where a float is so large that it may stand for several whole numbers."""
    numbers = pc.list_flatten(raw) if _is_list(raw.type) else raw
    if pc.any(pc.greater_equal(pc.abs(numbers.cast(pa.float64())), float(EXACT))).as_py():
        raise ValueError("a float64 holds whole numbers exactly only below 2^53, so this one was rounded before")


def _first_fault(values: pd.Series, dtype: DType) -> tuple[int, object, str] | None:
    """Index, value and reason of the first row that does not fit by itself; None where each one does."""
    for index in range(len(values)):
        try:
            typed_values(values.iloc[index : index + 1], dtype)
        except _ERRORS as error:
            return index, values.iloc[index], str(error)
    return None


def _shown(value: object, most: int = 80) -> str:
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[:most]} ... ({len(text):,} characters)"


def _remedy(dtype: DType, values: pd.Series) -> str:
    """What the author of a reader can do."""
    if dtype is DType.TIMESTAMP:
        unit = likely_unit(values) if pd.api.types.is_numeric_dtype(values) else None
        guess = f" They look like {UNITS[unit][0]}." if unit else ""
        return (
            "Convert numbers since 1970 with features.datasets.timestamps.from_epoch, text with a zone with "
            f'pd.to_datetime(.., utc=True), and finer ones than microseconds with .dt.floor("us").{guess}'
        )
    if dtype in (DType.STRING, DType.STRING_LIST):
        return 'Read the column as text, in every chunk: pd.read_csv(.., dtype={column: "string"}).'
    if dtype is DType.FLOAT32_LIST:
        return "Yield a list, tuple or array of numbers in each row, or None."
    if dtype is DType.FLOAT32:
        return 'Read the column as a number, in every chunk: pd.read_csv(.., dtype={column: "float64"}).'
    return (
        'Read the column as nullable integers, in every chunk: dtype={column: "Int64"}, or dtype_backend="pyarrow" in '
        "pd.read_csv and pd.read_parquet; or declare it string."
    )
