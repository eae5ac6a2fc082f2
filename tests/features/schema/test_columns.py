"""Columns refuse a kind, a storage type and a length that do not fit."""

import pytest

from common.errors import SchemaError
from features.schema import Column, DType, Kind, Role

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "dtype", "length", "message"),
    [
        (Kind.NUMERIC, DType.STRING, None, "cannot be stored as string"),
        (Kind.SEQUENCE, DType.INT64, 3, "cannot be stored as int64"),
        (Kind.SEQUENCE, DType.INT64_LIST, None, "needs a length"),
        (None, DType.INT64, None, "a None feature"),
    ],
)
def test_a_column_that_no_encoder_reads_is_refused(kind: Kind, dtype: DType, length: int, message: str) -> None:
    """Kind and storage of a feature must fit, and lists have a length."""
    with pytest.raises(SchemaError, match=message):
        Column(name="x", role=Role.FEATURE, dtype=dtype, kind=kind, length=length)
