"""The Arrow types in which declared columns are stored and encoded."""

import pyarrow as pa

from features.schema import Column, DType

TYPES = {
    DType.INT8: pa.int8(),
    DType.INT64: pa.int64(),
    DType.FLOAT32: pa.float32(),
    DType.STRING: pa.string(),
    DType.TIMESTAMP: pa.timestamp("us"),
    DType.INT64_LIST: pa.list_(pa.int64()),
    DType.STRING_LIST: pa.list_(pa.string()),
    DType.FLOAT32_LIST: pa.list_(pa.float32()),
}


def arrow_schema(columns: tuple[Column, ...], *more: pa.Field) -> pa.Schema:
    """The types of declared columns, in order, and fields on top of them."""
    return pa.schema([pa.field(column.name, TYPES[column.dtype]) for column in columns] + list(more))
