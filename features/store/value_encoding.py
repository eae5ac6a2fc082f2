"""Values and entity keys in the bytes in which Feast's online stores keep them, a column at a time.

Feast makes a message of every value and serialises it, which costs some 3 us each. Here Arrow and NumPy write the same
bytes: the wire format of protobuf (https://protobuf.dev/programming-guides/encoding/) is fixed, and so is the format of
entity keys (`entity_key_serialization_version: 3`). Tests hold every type against protobuf's and Feast's own bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from feast.protos.feast.types.Value_pb2 import Int64List, Value
from feast.protos.feast.types.Value_pb2 import ValueType as TypeNumber
from feast.value_type import ValueType
from numpy.typing import NDArray

_VARINT, _BYTES, _FOUR_BYTES = 0, 2, 5  # wire types of protobuf
_LONGEST = 10  # bytes of a varint of 64 bits
_NO_VALUE = b""  # a message without a value


def serialized_values(column: pa.Array, kind: ValueType) -> pa.BinaryArray:
    """The message `Value` of each value [N], serialised; a null, and a NaN that is no part of a list, has no value."""
    name, encode = _ENCODERS[kind]
    present = column.is_valid() if kind is not ValueType.FLOAT else pc.invert(column.is_null(nan_is_null=True))
    wire_type = {ValueType.INT64: _VARINT, ValueType.FLOAT: _FOUR_BYTES}.get(kind, _BYTES)
    message = _joined(_tag(Value, name, wire_type), encode(column))
    return pc.if_else(present, message, pa.scalar(_NO_VALUE, pa.binary()))


def value_texts(column: pa.Array, kind: ValueType) -> list[str | None]:
    """Each value as the text that Feast's SQLite store keeps beside it: of numbers and texts, not of lists [N]."""
    if kind is ValueType.STRING:
        return list(column.to_numpy(zero_copy_only=False))
    if kind not in (ValueType.INT64, ValueType.FLOAT):
        return [None] * len(column)
    encoded = column.dictionary_encode()
    distinct = [None if value != value else str(value) for value in encoded.dictionary.to_pylist()]
    texts = np.array([*distinct, None], dtype=object)  # the last one for nulls
    return list(texts[encoded.indices.fill_null(len(distinct)).to_numpy()])


def serialized_keys(columns: Mapping[str, pa.Array]) -> pa.BinaryArray:
    """The entity key of each row [N] in Feast's version 3, from the join keys by name."""
    names = sorted(columns)
    header = _four_bytes(len(names))
    for name in names:
        header += _four_bytes(TypeNumber.STRING) + _four_bytes(len(name.encode())) + name.encode()
    values = (part for name in names for part in _key_parts(columns[name]))
    return _joined(header, *values)


def key_order(columns: Mapping[str, pa.Array]) -> pa.Array:
    """The positions of the rows [N] in the order of their entity keys' bytes, without making the keys."""
    parts: dict[str, Any] = {}
    for name in sorted(columns):
        column = columns[name]
        if pa.types.is_integer(column.type):
            parts[str(len(parts))] = column.to_numpy().byteswap().view(np.uint64)  # keys are little-endian
        else:
            parts[str(len(parts))] = pc.binary_length(column).to_numpy().byteswap().view(np.uint32)
            parts[str(len(parts))] = column.cast(pa.binary())
    return pc.sort_indices(pa.table(parts), [(name, "ascending") for name in parts])


def serialized_timestamps(microseconds: NDArray[np.int64]) -> pa.BinaryArray:
    """The message `Timestamp` of each time since 1970 [N], as Feast's Redis store keeps it."""
    seconds, nanoseconds = microseconds // 1_000_000, microseconds % 1_000_000 * 1000
    parts = []
    for tag, values in ((b"\x08", seconds), (b"\x10", nanoseconds)):  # a zero is left out
        field = _joined(tag, _varints(values))
        parts.append(pc.if_else(pa.array(values != 0), field, pa.scalar(b"", pa.binary())))
    return _joined(*parts)


def _key_parts(column: pa.Array) -> tuple[pa.Array | bytes, ...]:
    """Type, length and bytes of each value of a join key."""
    if pa.types.is_integer(column.type):
        return _four_bytes(TypeNumber.INT64) + _four_bytes(8), _fixed(column.to_numpy().astype("<i8"))
    lengths = _fixed(pc.binary_length(column).to_numpy().astype("<u4"))
    return _four_bytes(TypeNumber.STRING), lengths, column.cast(pa.binary())


def _integers(column: pa.Array) -> pa.BinaryArray:
    return _varints(column.fill_null(0).to_numpy())


def _floats(column: pa.Array) -> pa.BinaryArray:
    return _fixed(column.fill_null(0).to_numpy().astype("<f4", copy=False))


def _texts(column: pa.Array) -> pa.BinaryArray:
    return _with_length(column.cast(pa.binary()).fill_null(b""))


def _integer_lists(column: pa.Array) -> pa.BinaryArray:
    return _with_length(_packed(_slices(column, _varints(column.values.to_numpy()))))


def _float_lists(column: pa.Array) -> pa.BinaryArray:
    return _with_length(_packed(_slices(column, _fixed(column.values.to_numpy().astype("<f4", copy=False)))))


def _text_lists(column: pa.Array) -> pa.BinaryArray:
    elements = _joined(_tag(Int64List, "val", _BYTES), _texts(column.values))
    return _with_length(_slices(column, elements))


_ENCODERS: dict[ValueType, tuple[str, Callable[[pa.Array], pa.BinaryArray]]] = {
    ValueType.INT64: ("int64_val", _integers),
    ValueType.FLOAT: ("float_val", _floats),
    ValueType.STRING: ("string_val", _texts),
    ValueType.INT64_LIST: ("int64_list_val", _integer_lists),
    ValueType.FLOAT_LIST: ("float_list_val", _float_lists),
    ValueType.STRING_LIST: ("string_list_val", _text_lists),
}


def _tag(message: Any, field: str, wire_type: int) -> bytes:
    """The bytes before a field's value: its number and its wire type."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return bytes(_varints(np.array([number << 3 | wire_type]))[0].as_py())


def _varints(values: NDArray[np.int64]) -> pa.BinaryArray:
    """Each integer [N] in groups of seven bits, least first; the top bit says that another group follows."""
    unsigned = values.astype(np.int64, copy=False).view(np.uint64)
    groups = unsigned[:, None] >> np.arange(0, 7 * _LONGEST, 7, dtype=np.uint64)  # [N, 10]
    follows = groups[:, 1:] > 0  # [N, 9]
    octets = (groups & 0x7F).astype(np.uint8)
    octets[:, :-1] |= follows.astype(np.uint8) << 7
    used = np.concatenate([np.ones((len(values), 1), bool), follows], axis=1)
    return _from_offsets(np.concatenate([[0], used.sum(axis=1).cumsum()]), octets[used])


def _fixed(values: NDArray[Any]) -> pa.BinaryArray:
    """The bytes of each number [N], which are little-endian."""
    octets = np.ascontiguousarray(values)
    return _from_offsets(np.arange(len(values) + 1) * values.itemsize, octets)


def _slices(column: pa.Array, elements: pa.BinaryArray) -> pa.BinaryArray:
    """The bytes of the elements of each list [N], one after the other."""
    starts = np.frombuffer(elements.buffers()[1], np.int32)[elements.offset :]
    ends = starts[column.offsets.to_numpy()]
    data = elements.buffers()[2]
    return pa.Array.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(ends), data or pa.py_buffer(b"")])


def _packed(elements: pa.BinaryArray) -> pa.BinaryArray:
    """The field of a list of numbers: one run of bytes, none where the list is empty."""
    field = _joined(_tag(Int64List, "val", _BYTES), _with_length(elements))
    return pc.if_else(pc.equal(pc.binary_length(elements), 0), pa.scalar(b"", pa.binary()), field)


def _with_length(content: pa.BinaryArray) -> pa.BinaryArray:
    return _joined(_varints(pc.binary_length(content).to_numpy().astype(np.int64)), content)


def _joined(*parts: pa.Array | bytes) -> pa.BinaryArray:
    """The parts of each row one after the other; bytes are the same part of every row."""
    return pc.binary_join_element_wise(*(pa.scalar(p, pa.binary()) if isinstance(p, bytes) else p for p in parts), b"")


def _from_offsets(offsets: NDArray[Any], octets: NDArray[Any]) -> pa.BinaryArray:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int32)), pa.py_buffer(octets)]
    return pa.Array.from_buffers(pa.binary(), len(offsets) - 1, buffers)


def _four_bytes(number: int) -> bytes:
    return number.to_bytes(4, "little")
