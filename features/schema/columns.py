"""Columns and feature views: what each is for, how it is stored, encoded and bounded. Knows no tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from common.errors import SchemaError
from features.schema.session import Session
from features.schema.values import check_declaration


class DType(StrEnum):
    """How a value is stored. Timestamps are UTC without a zone, in microseconds."""

    INT8 = "int8"
    INT64 = "int64"
    FLOAT32 = "float32"
    STRING = "string"
    TIMESTAMP = "timestamp"
    INT64_LIST = "int64_list"
    STRING_LIST = "string_list"
    FLOAT32_LIST = "float32_list"


class Kind(StrEnum):
    """How a feature is encoded."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"
    MULTI_VALUED = "multi_valued"  # an unordered set of categories
    SEQUENCE = "sequence"  # categories in order, newest last
    VECTOR = "vector"  # numbers of a fixed length, such as the embedding of a text or an image


class Role(StrEnum):
    """What a column is for."""

    EVENT_ID = "event_id"
    TIMESTAMP = "timestamp"  # of the impression
    KNOWN_AT = "known_at"  # the time from which a user or item exists
    USER = "user"
    ITEM = "item"
    SCENARIO = "scenario"
    CHOICE_SET = "choice_set"  # what the candidates of one choice have in common: an id, never a feature
    POSITION = "position"  # at which the impression was shown, from 0 or from 1: its bias is learned, never a feature
    LABEL = "label"
    WEIGHT = "weight"  # how much an impression counts in loss and weighted metrics: measured, never a feature
    FEATURE = "feature"
    NEWEST_DAY = "newest_day"  # of a sequence: the day (since 1970, UTC) of its newest value; measured, never a feature


EVENT_TIMESTAMP = "event_timestamp"  # of a row of a view: the time from which its values are known
FEATURE_ROLES = frozenset({Role.USER, Role.ITEM, Role.SCENARIO, Role.FEATURE})
_DTYPES: dict[Kind | None, set[DType]] = {
    Kind.CATEGORICAL: {DType.INT64, DType.STRING},
    Kind.NUMERIC: {DType.INT64, DType.FLOAT32},
    Kind.MULTI_VALUED: {DType.INT64_LIST, DType.STRING_LIST},
    Kind.SEQUENCE: {DType.INT64_LIST, DType.STRING_LIST},
    Kind.VECTOR: {DType.FLOAT32_LIST},
}
_WITH_VOCABULARY = frozenset({Kind.CATEGORICAL, Kind.MULTI_VALUED, Kind.SEQUENCE})


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, what it is for, how it is stored, encoded and bounded.

    Args:
        name: Name of the column.
        role: What the column is for.
        dtype: How it is stored.
        kind: How it is encoded; None where it is no feature.
        nullable: Whether values may be missing.
        minimum: Least number, or least timestamp in seconds since 1970 (UTC).
        maximum: Largest number, or largest timestamp in seconds since 1970 (UTC).
        values: The closed set of values of a categorical column; None: open.
        domain: Name of the vocabulary and the embedding table of a categorical, multi-valued or sequence column;
            columns with one domain share them. None: the name of the column.
        length: Number of values of a list that are kept (the newest of a sequence, the first of a set); of a vector the
            number that each has.
        log: Whether the encoder takes sign(v) log(1 + |v|) before scaling: for counts and prices.
        desc: Description for people.
    """

    name: str
    role: Role
    dtype: DType
    kind: Kind | None = None
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str | int, ...] | None = None
    domain: str | None = None
    length: int | None = None
    log: bool = False
    desc: str = ""

    def __post_init__(self) -> None:
        """Raises SchemaError where no encoder could read the column."""
        if self.is_feature and self.dtype not in _DTYPES.get(self.kind, set()):
            raise SchemaError(f"column {self.name}: a {self.kind} feature cannot be stored as {self.dtype}")
        if not self.is_feature and self.kind is not None:
            raise SchemaError(f"column {self.name}: a {self.role} is no feature and has no kind, found {self.kind}")
        if (self.is_list or self.is_vector) and (self.length or 0) < 1:
            kept = "how many numbers each has" if self.is_vector else "how many values are kept"
            raise SchemaError(f"column {self.name}: a {self.kind} needs a length from 1 ({kept}), found {self.length}")
        if self.is_vector and self.domain is not None:
            raise SchemaError(f"column {self.name}: a vector has no vocabulary; leave the domain {self.domain} out")
        check_declaration(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Column":
        """The column that `dataclasses.asdict` turned into plain values."""
        typed: dict[str, Any] = {"role": Role(plain["role"]), "dtype": DType(plain["dtype"])}
        typed["kind"] = Kind(plain["kind"]) if plain["kind"] else None
        typed["values"] = tuple(plain["values"]) if plain["values"] is not None else None
        return cls(**{**plain, **typed})

    @property
    def is_feature(self) -> bool:
        """Whether a model may see the column."""
        return self.role in FEATURE_ROLES

    @property
    def is_list(self) -> bool:
        """Whether a row has a list of categories."""
        return self.dtype in (DType.INT64_LIST, DType.STRING_LIST)

    @property
    def is_vector(self) -> bool:
        """Whether a row has a vector: a list of numbers of a fixed length."""
        return self.dtype is DType.FLOAT32_LIST

    @property
    def has_vocabulary(self) -> bool:
        """Whether the values are categories, which the encoder looks up."""
        return self.kind in _WITH_VOCABULARY

    @property
    def vocabulary(self) -> str:
        """The name of the vocabulary of the column."""
        return self.domain or self.name


@dataclass(frozen=True, kw_only=True)
class View:
    """A table of features by entity and timestamp: `<name>.parquet`, one wide view per set of join keys.

    `keys` are the names of the event columns that identify the entity; every row has `event_timestamp`, the time from
    which its values are known. The columns of a view with a `session` are computed from the user's newest events, for
    each impression; its table holds these events (features/engine/session_view.py).
    """

    name: str
    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    session: Session | None = None


def newest_day(sequence: str) -> str:
    """Name of the column with the day of the newest value of a sequence, where a view has one."""
    return f"{sequence}_newest_day"
