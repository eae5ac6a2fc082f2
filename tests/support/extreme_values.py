"""Extreme values of every type, as Hypothesis draws them, and the pandas columns that hold them exactly."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from features.engine.arrow_types import TYPES
from features.schema import DType

LONG = "long text, " * 3_000
_INTEGERS = st.sampled_from(
    [-(2**63), 2**63 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**60 + 1, 4_611_686_018_427_387_905, -1, 0, 1]
) | st.integers(-(2**63), 2**63 - 1)
_TEXTS = st.sampled_from(
    ["", " ", "null", "nan", "None", "\x00", "0012", "'\"\\", "\u0130", "e\u0301", "\U0010ffff", LONG]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_FLOATS = st.sampled_from([0.0, -0.0, 2.0**-149, 2.0**-127, 3.4028234663852886e38]) | st.floats(
    width=32, allow_nan=False, allow_infinity=False
)
_VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.INT8: st.integers(-128, 127),
    DType.INT64: _INTEGERS,
    DType.FLOAT32: _FLOATS,
    DType.STRING: _TEXTS,
    DType.TIMESTAMP: st.datetimes(),
    DType.INT64_LIST: st.lists(_INTEGERS, max_size=5),
    DType.STRING_LIST: st.lists(_TEXTS, max_size=5),
}


def of(dtype: DType) -> st.SearchStrategy[Any]:
    """Values of a type, none missing: its limits, 2^53 and beyond, subnormals, all of unicode, years 1 to 9999."""
    return _VALUES[dtype]


def pandas_columns(values: list[Any], dtype: DType) -> Iterator[pd.Series]:
    """The values as columns of objects, of Arrow, and of each type of pandas that holds them exactly."""
    arrow = pa.array(values, TYPES[dtype])
    yield pd.Series(values, dtype=object)
    yield pd.Series(arrow, dtype=pd.ArrowDtype(arrow.type))
    nullable = {DType.INT8: "Int8", DType.INT64: "Int64", DType.FLOAT32: "Float32", DType.STRING: "string"}
    if dtype in nullable:
        yield pd.Series(pd.array(values, dtype=nullable[dtype]))
    if None not in values and dtype not in (DType.STRING, DType.INT64_LIST, DType.STRING_LIST):
        yield arrow.to_pandas()
