"""The declaration of a column: types by role, bounds and closed sets that no value could have are refused."""

import dataclasses
from typing import Any

import pytest

from common.errors import SchemaError
from features.schema import Column, DType, Kind, Role
from tests.support import world

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"role": Role.EVENT_ID, "dtype": DType.STRING}, "a event_id is stored as int64, found string"),
        ({"role": Role.TIMESTAMP, "dtype": DType.INT64}, "a timestamp is stored as timestamp, found int64"),
        ({"role": Role.LABEL, "dtype": DType.TIMESTAMP}, "a label is stored as float32 or int64 or int8 or string"),
        ({"role": Role.SCENARIO, "dtype": DType.INT64, "kind": Kind.CATEGORICAL}, "a scenario is stored as string"),
        ({"role": Role.USER, "dtype": DType.INT64, "kind": Kind.CATEGORICAL, "nullable": True}, "a user is never miss"),
        ({"role": Role.WEIGHT, "dtype": DType.INT64}, "a weight is stored as float32, found int64"),
        ({"role": Role.WEIGHT, "dtype": DType.FLOAT32, "nullable": True}, "a weight is never missing"),
        ({"role": Role.WEIGHT, "dtype": DType.FLOAT32, "minimum": -1}, "a weight is at least 0, found minimum -1"),
        ({"dtype": DType.STRING, "kind": Kind.CATEGORICAL, "log": True}, "log is for numeric features"),
        ({"dtype": DType.STRING, "kind": Kind.CATEGORICAL, "minimum": 1}, "string has no minimum"),
        ({"dtype": DType.INT64, "kind": Kind.NUMERIC, "maximum": 2**63}, "maximum 9223372036854775808 is no int64"),
        ({"dtype": DType.FLOAT32, "kind": Kind.NUMERIC, "minimum": float("nan")}, "minimum nan is no float32"),
        ({"dtype": DType.FLOAT32, "kind": Kind.NUMERIC, "minimum": 2, "maximum": 1}, "minimum 2 is above maximum 1"),
        ({"role": Role.TIMESTAMP, "dtype": DType.TIMESTAMP, "maximum": 1.7e12}, "1700000000000.0 is no timestamp"),
        ({"dtype": DType.INT64, "kind": Kind.CATEGORICAL, "values": ("1", "2")}, "at least one int64, found"),
        ({"dtype": DType.STRING, "kind": Kind.CATEGORICAL, "values": ()}, "at least one string, found"),
        ({"dtype": DType.FLOAT32, "kind": Kind.NUMERIC, "values": (1,)}, "declare minimum and maximum"),
        ({"role": Role.LABEL, "dtype": DType.INT8, "values": (0, 300)}, "values lie beyond int8"),
    ],
)
def test_a_declaration_that_no_value_fits_is_refused(declared: dict[str, Any], message: str) -> None:
    """The error names the column, what is declared and what is expected."""
    with pytest.raises(SchemaError, match=f"column c: .*{message}"):
        Column(name="c", **{"role": Role.FEATURE, **declared})


def test_columns_of_one_vocabulary_have_one_type() -> None:
    """An id that is a number in events and text in users, or in a feature of its domain, is refused."""
    tiny = world.schema()
    text = Column(name="user_id", role=Role.USER, dtype=DType.STRING, kind=Kind.CATEGORICAL)
    with pytest.raises(SchemaError, match="user_id is int64 and user_id is string, but they share the vocabulary"):
        dataclasses.replace(tiny, users=(text, *tiny.users[1:]))
    friend = Column(
        name="friends",
        role=Role.FEATURE,
        dtype=DType.STRING_LIST,
        kind=Kind.MULTI_VALUED,
        length=2,
        domain="user_id",
    )
    with pytest.raises(SchemaError, match="user_id is int64 and friends is string_list, but they share"):
        dataclasses.replace(tiny, users=(*tiny.users, friend))
