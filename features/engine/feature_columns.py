"""Columns that the pipeline computes itself, and the events that count as engagement."""

from features.schema import Column, DType, Kind, Role, Schema


def engagement(schema: Schema) -> str | None:
    """The task whose positives are engagement: the first rated one; without one, every impression is engagement."""
    return next(iter(schema.rated), None)


def item_sequence(schema: Schema, name: str, length: int, desc: str) -> Column:
    """A list of items, newest last."""
    item = next(column for column in schema.items if column.role is Role.ITEM)
    return Column(
        name=name,
        role=Role.FEATURE,
        dtype=DType.INT64_LIST if item.dtype is DType.INT64 else DType.STRING_LIST,
        kind=Kind.SEQUENCE,
        nullable=True,
        domain=schema.item,
        length=length,
        desc=desc,
    )


def number(name: str, dtype: DType, *, log: bool = False) -> Column:
    """A number that may be missing; `log` as in Column."""
    return Column(name=name, role=Role.FEATURE, dtype=dtype, kind=Kind.NUMERIC, nullable=True, log=log)
