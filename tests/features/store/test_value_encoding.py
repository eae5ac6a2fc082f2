"""The bytes of values and entity keys: those of protobuf and of Feast, for every type that a schema can declare."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.value_type import ValueType
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from features.store.arrow_engine import to_values
from features.store.definitions import VALUE_TYPES
from features.store.value_encoding import (
    key_order,
    serialized_keys,
    serialized_timestamps,
    serialized_values,
    value_texts,
)

pytestmark = pytest.mark.unit

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 127, 128, -1, 2**63 - 1, -(2**63)])
FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, float("nan"), float("inf"), 1e-45])
TEXTS = st.text(max_size=200) | st.sampled_from(["", "\0", "é", "京" * 50])
COLUMNS: dict[ValueType, tuple[st.SearchStrategy[Any], pa.DataType]] = {
    ValueType.INT64: (INTEGERS, pa.int64()),
    ValueType.FLOAT: (FLOATS, pa.float32()),
    ValueType.STRING: (TEXTS, pa.string()),
    ValueType.INT64_LIST: (st.lists(INTEGERS), pa.list_(pa.int64())),
    ValueType.FLOAT_LIST: (st.lists(FLOATS), pa.list_(pa.float32())),
    ValueType.STRING_LIST: (st.lists(TEXTS), pa.list_(pa.string())),
}


def test_every_declared_type_is_tried() -> None:
    """The types below are those in which a view can have features."""
    assert set(COLUMNS) == set(VALUE_TYPES)


@pytest.mark.parametrize("kind", COLUMNS)
@given(data=st.data())
def test_values_have_the_bytes_and_the_text_of_feast(kind: ValueType, data: st.DataObject) -> None:
    """Of any values, nulls among them, in an array that is the middle of another one."""
    strategy, arrow = COLUMNS[kind]
    whole = pa.array(data.draw(st.lists(st.none() | strategy, min_size=1, max_size=8)), arrow)
    column = whole.slice(data.draw(st.integers(0, len(whole) - 1)))
    messages = to_values(column, kind)
    assert serialized_values(column, kind).to_pylist() == [message.SerializeToString() for message in messages]
    assert value_texts(column, kind) == [extract_text_and_num(message, False)[0] for message in messages]


@example(users=[1, 256, -1, 2**40], words=["a", "", "京", "ab"])
@given(users=st.lists(INTEGERS, min_size=1, max_size=6), words=st.lists(TEXTS, min_size=6, max_size=6))
def test_keys_have_the_bytes_of_feast(users: list[int], words: list[str]) -> None:
    """Of numbers, of texts and of both, whatever the order of their names; their order is that of the bytes."""
    columns = {"user": pa.array(users, pa.int64()), "scene": pa.array(words[: len(users)], pa.string())}
    for names in (["user"], ["scene"], ["user", "scene"]):
        chosen = {name: columns[name] for name in names}
        rows = zip(*(column.to_pylist() for column in chosen.values()), strict=True)
        expected = [serialize_entity_key(entity_key(names, row), 3) for row in rows]
        keys = serialized_keys(chosen)
        assert keys.to_pylist() == expected
        assert keys.take(key_order(chosen)).to_pylist() == sorted(expected)


def entity_key(names: list[str], row: tuple[Any, ...]) -> EntityKey:
    """The message of an entity key."""
    values = [Value(int64_val=one) if isinstance(one, int) else Value(string_val=one) for one in row]
    return EntityKey(join_keys=names, entity_values=values)


@example(when=datetime(1969, 12, 31, 23, 59, 59, 999_999))
@example(when=datetime(1970, 1, 1))
@given(when=st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))
def test_timestamps_have_the_bytes_of_protobuf(when: datetime) -> None:
    """Before and after 1970, with and without a fraction of a second."""
    message = Timestamp()
    message.FromDatetime(when.replace(tzinfo=UTC))
    microseconds = np.array([(when - datetime(1970, 1, 1)) // timedelta(microseconds=1)])
    assert serialized_timestamps(microseconds).to_pylist() == [message.SerializeToString()]
