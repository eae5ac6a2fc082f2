"""The values that the schema allows in a column: closed sets and bounds, and their description in a sentence."""

import datetime

import numpy as np

from features.schema import LARGEST_TARGET, Column, DType, Role, Schema

_NUMBERS = frozenset({DType.INT8, DType.INT64, DType.FLOAT32})
_LARGEST = float(np.finfo(np.float32).max)
_EPOCH, _LAST = datetime.datetime(1970, 1, 1), datetime.datetime(2199, 12, 31, 23, 59, 59, 999_999)


def allowed_values(schema: Schema, column: Column) -> tuple[str | int, ...] | None:
    """The closed set of values of a column, or None where it is open."""
    classes = {task.name: task.classes for task in schema.tasks if task.name not in schema.rated}
    defaults = {Role.LABEL: classes.get(column.name, (0, 1)), Role.SCENARIO: schema.scenarios}
    return column.values if column.values is not None else defaults.get(column.role)


def timestamp_bounds(column: Column) -> tuple[datetime.datetime, datetime.datetime]:
    """Bounds of a timestamp, both included; by default from 1970 (an event) or the year 1 on, and before 2200."""
    first, last = _EPOCH if column.role is Role.TIMESTAMP else datetime.datetime.min, _LAST
    if column.minimum is not None:
        first = _EPOCH + datetime.timedelta(seconds=column.minimum)
    if column.maximum is not None:
        last = _EPOCH + datetime.timedelta(seconds=column.maximum)
    return first, last


def number_bounds(column: Column) -> tuple[float | None, float | None]:
    """Bounds of a number, both included; those of a float are float32 numbers, as its values are, and finite."""
    if column.dtype not in _NUMBERS:
        return None, None
    low, high = _minimum(column), column.maximum
    if column.dtype is not DType.FLOAT32:
        return low, high
    largest = LARGEST_TARGET if column.role is Role.LABEL else _LARGEST
    return float(np.float32(-largest if low is None else low)), float(np.float32(largest if high is None else high))


def describe_bounds(column: Column) -> str:
    """The bounds as the end of a sentence: "is at least 0 and at most 5"."""
    if column.dtype is DType.TIMESTAMP:
        sides = zip(("not before", "not after"), timestamp_bounds(column), strict=True)
        return "is " + " and ".join(f"{side} {bound}" for side, bound in sides)
    bounds = (("at least", _minimum(column)), ("at most", column.maximum))
    return "is " + (" and ".join(f"{side} {bound:,.10g}" for side, bound in bounds if bound is not None) or "finite")


def _minimum(column: Column) -> float | None:
    """The declared minimum; of a position and of a weight by default 0."""
    return 0.0 if column.role in (Role.POSITION, Role.WEIGHT) and column.minimum is None else column.minimum


def listed(values: tuple[str | int, ...], most: int = 12) -> str:
    """Values as text, at most `most` of them."""
    rest = [f"... ({len(values)} in all)"] * (len(values) > most)
    return ", ".join([*map(str, values[:most]), *rest])
