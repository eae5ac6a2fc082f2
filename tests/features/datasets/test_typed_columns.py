"""Typed tables of a raw log: every value exact, whatever pandas made of it, or an error that names column and row."""

import datetime
import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import SourceError
from features.datasets.typed_columns import typed_table
from features.schema import Column, DType, Role
from tests.support import extreme_values, world
from tests.support.examples import examples

pytestmark = pytest.mark.unit


def typed(values: Any, dtype: DType, first_row: int = 0) -> list[Any]:
    """The values of a column `c` as they are stored."""
    column = Column(name="c", role=Role.CHOICE_SET, dtype=dtype, length=3)
    frame = pd.DataFrame({"c": values if isinstance(values, pd.Series) else pd.Series(values)})
    return typed_table(frame, (column,), "events of shop", first_row)["c"].to_pylist()


def test_missing_values_stay_missing():
    """Numbers with gaps become integers with nulls; nothing is filled in."""
    frame = pd.DataFrame({"price": [1.5, None], "item_id": [1.0, 2.0], "tags": [["hot"], []], "listed_at": world.START})
    table = typed_table(frame, world.schema().items, "items")
    assert table["price"].to_pylist() == [1.5, None]
    assert table["tags"].to_pylist() == [["hot"], []]
    assert table["item_id"].type == pa.int64()


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data(), dtype=st.sampled_from(list(DType)))
def test_every_value_is_stored_as_it_was(data: st.DataObject, dtype: DType) -> None:
    """Values of every type, extreme and missing ones, come out of every kind of pandas column as they went in."""
    values = data.draw(st.lists(st.none() | extreme_values.of(dtype), max_size=6))
    for column in extreme_values.pandas_columns(values, dtype):
        assert typed(column, dtype) == values


@pytest.mark.parametrize(
    ("values", "dtype", "row", "value", "rule"),
    [
        ([1.0, None, 2.0**60], DType.INT64, 2, "1.152921504606847e+18", "only below 2.53"),
        ([[1], [2.0**60]], DType.INT64_LIST, 1, "[1.152921504606847e+18]", "only below 2.53"),
        ([1, 2**63], DType.INT64, 1, "9223372036854775808", "not in range"),
        ([1, 300], DType.INT8, 1, "300", "not in range"),
        ([1, 2.5], DType.INT64, 1, "2.5", "truncated"),
        ([1.0, np.inf], DType.INT64, 1, "inf", "only below 2.53"),
        ([[1], [1.5]], DType.INT64_LIST, 1, "[1.5]", "truncated"),
        ([1, "x"], DType.INT64, 1, "'x'", "expected int64, found string"),
        (["0012"], DType.INT64, 0, "'0012'", "expected int64, found string"),
        (["1.5"], DType.FLOAT32, 0, "'1.5'", "expected float, found string"),
        (["a", 1], DType.STRING, 1, "1", "expected string, found int64"),
        ([1.0, None], DType.STRING, 0, "1.0", "expected string, found double"),
        (["a", "\ud800"], DType.STRING, 1, r"'\ud800'", "surrogates"),
        ([b"a"], DType.STRING, 0, "b'a'", "found binary"),
        (["abc"], DType.STRING_LIST, 0, "'abc'", "expected a list in each row"),
        ([1], DType.INT64_LIST, 0, "1", "expected a list in each row"),
        ([[1]], DType.INT64, 0, "[1]", "expected one value in each row"),
        ([{"a": 1}], DType.INT64, 0, "{'a': 1}", "found struct"),
        ([1_700_000_000], DType.TIMESTAMP, 0, "1700000000", "from_epoch.*look like seconds"),
        ([1_700_000_000_000.0], DType.TIMESTAMP, 0, "1700000000000.0", "from_epoch.*look like milliseconds"),
        (["2026-01-05T00:00:00Z"], DType.TIMESTAMP, 0, "'2026-01-05T00:00:00Z'", "utc=True"),
        ([pd.Timestamp(1)], DType.TIMESTAMP, 0, "1970-01-01 00:00:00.000000001", r'dt.floor\("us"\)'),
    ],
)
def test_what_does_not_fit_is_named(values: list[Any], dtype: DType, row: int, value: str, rule: str) -> None:
    """The error names the table, the column, the first row that does not fit, its value and what is wrong with it."""
    example = f"row {row + 7}: {re.escape(value)}: .*{rule}"
    with pytest.raises(SourceError, match=rf"events of shop: column c .*{dtype}, {example}"):
        typed(values, dtype, first_row=7)


def test_a_column_that_is_there_twice_or_never_is_refused():
    """The error names it and lists the columns that the reader yields."""
    item = world.schema().items[:1]
    with pytest.raises(SourceError, match=r"column item_id is there more than once: its reader yields \['item_id', "):
        typed_table(pd.DataFrame([[1, 2]], columns=["item_id", "item_id"]), item, "items")
    with pytest.raises(SourceError, match=r"column item_id is declared, but its reader yields only \['id'\]"):
        typed_table(pd.DataFrame({"id": [1]}), item, "items")


def test_other_forms_of_a_value_are_read_exactly():
    """Truth values as labels, dates and zones as timestamps, categories as text, decimals as numbers."""
    assert typed([True, None, False], DType.INT8) == [1, None, 0]
    assert typed([datetime.date(1, 1, 1), None], DType.TIMESTAMP) == [datetime.datetime(1, 1, 1), None]
    assert typed([pd.Timestamp("2026-01-05", tz="Asia/Tokyo")], DType.TIMESTAMP) == [datetime.datetime(2026, 1, 4, 15)]
    assert typed(pd.Series(pd.Categorical(["a", None])), DType.STRING) == ["a", None]
    assert typed([2**24 + 1], DType.FLOAT32) == [2.0**24], "rounded, as float32 is declared to be"
