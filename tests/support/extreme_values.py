"""Extreme values of every type, as Hypothesis draws them, and the pandas columns that hold them exactly."""

import datetime
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from features.engine.arrow_types import TYPES
from features.schema import DType

LONG = "long text, " * 3_000
_INTEGERS = [-(2**63), 2**63 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**60 + 1, 4_611_686_018_427_387_905, -1, 0, 1]
_TEXTS = ["", " ", "null", "nan", "None", "\x00", "0012", "'\"\\", "\u0130", "e\u0301", "\U0010ffff", LONG]
SAMPLES: dict[DType, list[Any]] = {  # the same values in every run
    DType.INT8: [-128, -1, 0, 1, 127],
    DType.INT64: _INTEGERS,
    DType.FLOAT32: [0.0, -0.0, 2.0**-149, 2.0**-127, 3.4028234663852886e38, -1.5],
    DType.STRING: _TEXTS,
    DType.TIMESTAMP: [datetime.datetime(1, 1, 1), datetime.datetime(1850, 1, 1), datetime.datetime.max],
    DType.INT64_LIST: [[], _INTEGERS[:3], [2**53 + 1, 2**53], _INTEGERS],
    DType.STRING_LIST: [[], _TEXTS[:3], ["\x00", ""], _TEXTS],
    DType.FLOAT32_LIST: [[], [0.0, -0.0, 2.0**-149], [3.4028234663852886e38] * 3, [1.5, -2.0, 0.25], [1.0] * 4],
}
_INTEGER = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(_INTEGERS)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(_TEXTS)
_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)
_VALUES: dict[DType, st.SearchStrategy[Any]] = {
    DType.INT8: st.integers(-128, 127),
    DType.INT64: _INTEGER,
    DType.FLOAT32: _FLOAT,
    DType.STRING: _TEXT,
    DType.TIMESTAMP: st.datetimes().map(lambda when: when.replace(fold=0)),
    DType.INT64_LIST: st.lists(_INTEGER, max_size=5),
    DType.STRING_LIST: st.lists(_TEXT, max_size=5),
    DType.FLOAT32_LIST: st.lists(_FLOAT, min_size=3, max_size=3) | st.lists(_FLOAT, max_size=5),
}


def of(dtype: DType) -> st.SearchStrategy[Any]:
    """Values of a type, none missing: its limits, 2^53 and beyond, subnormals, all of unicode, years 1 to 9999."""
    return _VALUES[dtype] | st.sampled_from(SAMPLES[dtype])


def pandas_columns(values: list[Any], dtype: DType) -> Iterator[pd.Series]:
    """The values as columns of objects, of Arrow, and of each type of pandas that holds them exactly."""
    arrow = pa.array(values, TYPES[dtype])
    yield pd.Series(values, dtype=object)
    yield pd.Series(arrow, dtype=pd.ArrowDtype(arrow.type))
    nullable: dict[DType, Any] = {
        DType.INT8: "Int8",
        DType.INT64: "Int64",
        DType.FLOAT32: "Float32",
        DType.STRING: "string",
    }
    if dtype in nullable:
        yield pd.Series(pd.array(values, dtype=nullable[dtype]))
    if None not in values and dtype is not DType.STRING and not dtype.endswith("_list"):
        yield arrow.to_pandas()
