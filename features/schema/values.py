"""The checks of a column's declaration: type by role, bounds and closed sets that its values can have."""

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from common.errors import SchemaError


class Declared(Protocol):
    """What is checked of a column: see features/schema/columns.py, which these checks do not import."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def role(self) -> str:
        """What the column is for."""

    @property
    def dtype(self) -> str:
        """How it is stored."""

    @property
    def kind(self) -> str | None:
        """How it is encoded."""

    @property
    def nullable(self) -> bool:
        """Whether values may be missing."""

    @property
    def log(self) -> bool:
        """Whether its logarithm is encoded."""

    @property
    def minimum(self) -> float | None:
        """Its least value."""

    @property
    def maximum(self) -> float | None:
        """Its largest value."""

    @property
    def vocabulary(self) -> str:
        """The name of its vocabulary."""

    @property
    def values(self) -> tuple[str | int, ...] | None:
        """Its closed set of values."""


YEARS = (-62_135_596_800, 253_402_300_799)  # seconds since 1970: from the year 1 to the end of 9999, as Python has them
RANGES = {"int8": (-(2**7), 2**7 - 1), "int64": (-(2**63), 2**63 - 1), "timestamp": YEARS, "float32": None}
_TYPES = {  # by role: those that the pipeline can store, sort and compare; those of features depend on their kind
    "event_id": {"int64"},
    "timestamp": {"timestamp"},
    "known_at": {"timestamp"},
    "user": {"int64", "string"},
    "item": {"int64", "string"},
    "scenario": {"string"},
    "position": {"int64"},
    "label": {"int8", "int64", "float32", "string"},
    "newest_day": {"int64"},
    "weight": {"float32"},
}
_NEVER_MISSING = frozenset({"event_id", "timestamp", "user", "item", "scenario", "weight"})


def check_declaration(column: Declared) -> None:
    """Raises SchemaError where no value could be stored, checked or encoded as the column declares."""
    allowed = _TYPES.get(column.role)
    if allowed is not None and column.dtype not in allowed:
        raise SchemaError(
            f"column {column.name}: a {column.role} is stored as {' or '.join(sorted(allowed))}, found {column.dtype}"
        )
    if column.nullable and column.role in _NEVER_MISSING:
        raise SchemaError(
            f"column {column.name}: a {column.role} is never missing; leave nullable out, and in `read` leave such "
            "rows out or give them a value of their own"
        )
    if column.log and column.kind != "numeric":
        raise SchemaError(f"column {column.name}: log is for numeric features, found kind {column.kind}")
    if column.role == "weight" and column.minimum is not None and column.minimum < 0:
        raise SchemaError(f"column {column.name}: a weight is at least 0, found minimum {column.minimum}")
    if column.role == "position" and column.minimum is not None and column.minimum < 0:
        raise SchemaError(f"column {column.name}: a position counts from 0 or from 1, found minimum {column.minimum}")
    _check_bounds(column)
    _check_values(column)


def check_types(where: str, tables: Mapping[str, Sequence[Declared]]) -> None:
    """Raises SchemaError where columns of one vocabulary, or an id in two tables, are of different types."""
    types: dict[str, Declared] = {}
    for column in (column for table in tables.values() for column in table):
        if column.kind in (None, "numeric", "vector"):
            continue
        other = types.setdefault(column.vocabulary, column)
        if column.dtype.removesuffix("_list") != other.dtype.removesuffix("_list"):
            raise SchemaError(
                f"{where}: {other.name} is {other.dtype} and {column.name} is {column.dtype}, but they share the "
                f"vocabulary {column.vocabulary}; declare one type, or another domain"
            )


def _check_bounds(column: Declared) -> None:
    bounds = {"minimum": column.minimum, "maximum": column.maximum}
    declared = {side: bound for side, bound in bounds.items() if bound is not None}
    if not declared:
        return
    if column.dtype not in RANGES:
        raise SchemaError(f"column {column.name}: {column.dtype} has no {' or '.join(declared)}; leave it out")
    low, high = RANGES[column.dtype] or (-math.inf, math.inf)
    for side, bound in declared.items():
        if not math.isfinite(bound) or not low <= bound <= high:
            raise SchemaError(
                f"column {column.name}: {side} {bound} is no {column.dtype}; expected a number from {low} to {high}"
                + (", in seconds since 1970" if column.dtype == "timestamp" else "")
            )
    if len(declared) == 2 and column.minimum > column.maximum:  # type: ignore[operator]
        raise SchemaError(f"column {column.name}: minimum {column.minimum} is above maximum {column.maximum}")


def _check_values(column: Declared) -> None:
    if column.values is None:
        return
    element = str(column.dtype).removesuffix("_list")
    expected = {"string": str, "int8": int, "int64": int}.get(element)
    wrong = [value for value in column.values if expected is None or type(value) is not expected]
    if wrong or not column.values:
        raise SchemaError(
            f"column {column.name}: values are a closed set of at least one {element}, found {column.values}"
            + ("" if expected else f"; {column.dtype} has none: declare minimum and maximum")
        )
    low, high = RANGES.get(element) or (None, None)
    if low is not None and not all(low <= value <= high for value in column.values):  # type: ignore[operator]
        raise SchemaError(f"column {column.name}: values lie beyond {column.dtype}: {column.values}")
