"""The types of the values in a request, made from the columns of a schema: bounded by what the schema declares.

A text and a list are bounded in length, too: whatever a request names may stay in memory for a while, in the queue of
the impression log, for instance.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from features.schema import Column, DType, Kind

TEXT = 1024  # characters of an id or another text, unless the model knows a longer one
TEXT_OF_USER = 16_384  # characters of all texts about the user: the impression log repeats them for each candidate
LIST_VALUES = 1000  # of a list, unless the encoder reads more
FLOAT32 = 3.4028234e38  # the largest float32
STRICT = ConfigDict(extra="forbid", strict=True)
Float = Annotated[float, Field(allow_inf_nan=False)]
_NUMBERS: dict[DType, Any] = {
    DType.INT64: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)],
    DType.FLOAT32: Annotated[Float, Field(ge=-FLOAT32, le=FLOAT32)],
}
_ELEMENTS = {
    DType.INT64_LIST: DType.INT64,
    DType.STRING_LIST: DType.STRING,
    DType.FLOAT32_LIST: DType.FLOAT32,
}


@pydantic.with_config(STRICT)
class Range(TypedDict, total=False):
    """From `min` to `max`, both included; either may be left out."""

    min: Float
    max: Float


@dataclass(frozen=True)
class ValueTypes:
    """The types of values by column; a text has at most `text` characters."""

    text: int = TEXT

    def of(self, dtype: DType) -> Any:
        """The type of a value that is stored as `dtype`; of a list, that of its elements."""
        dtype = _ELEMENTS.get(dtype, dtype)
        return Annotated[str, Field(max_length=self.text)] if dtype is DType.STRING else _NUMBERS[dtype]

    def bounded(self, column: Column) -> Any:
        """The type of a value of the column, with the bounds that the schema declares."""
        if column.is_vector:
            number: Any = self.of(column.dtype)
            return Annotated[list[number], Field(min_length=column.length, max_length=column.length)]
        if column.is_list:
            element: Any = self.of(column.dtype)
            return Annotated[list[element], Field(max_length=max(LIST_VALUES, column.length or 0))]
        if column.values is not None:
            return Literal[column.values]
        if column.dtype is DType.STRING:
            return self.of(column.dtype)
        return Annotated[_NUMBERS[column.dtype], Field(ge=column.minimum, le=column.maximum)]

    def nullable(self, column: Column) -> Any:
        """The type of a value of the column, or null for an unknown one."""
        return Annotated[self.bounded(column) | None, Field(description=column.desc or column.name)]

    def filter(self, column: Column) -> Any:
        """The type of a filter by this column: a range for a number, else a value or a list of values."""
        if column.kind is Kind.NUMERIC:
            return Annotated[Range, AfterValidator(_valid_range), Field(description=column.desc)]
        element: Any = self.of(column.dtype) if column.is_list else self.bounded(column)
        shown = Field(
            min_length=1, max_length=LIST_VALUES, description=column.desc, json_schema_extra=_describe_one_or_list
        )
        return Annotated[list[element], shown, BeforeValidator(lambda v: v if isinstance(v, list) else [v])]

    def of_user(self, record: Any, columns: Iterable[Column]) -> Any:
        """The type `record` of values of `columns` about the user: with a bound of all its texts together."""
        texts = [column for column in columns if column.dtype in (DType.STRING, DType.STRING_LIST)]
        few = len(texts) * self.text <= TEXT_OF_USER and not any(column.is_list for column in texts)
        return record if few else Annotated[record, AfterValidator(_bounded_text)]


def text_limit(values: Iterable[Sequence[Any]]) -> int:
    """TEXT, or the length of the longest text in `values`: what a model knows may be requested."""
    texts = (text for of_one in values if of_one and isinstance(of_one[0], str) for text in of_one)
    return max(TEXT, max(map(len, texts), default=0))


def _bounded_text(values: dict[str, Any]) -> dict[str, Any]:
    characters = sum(_characters(value) for value in values.values())
    if characters > TEXT_OF_USER:
        raise PydanticCustomError(
            "text_of_user",
            "Texts should have at most {limit} characters together, found {found}",
            {"limit": TEXT_OF_USER, "found": characters},
        )
    return values


def _characters(value: Any) -> int:
    if isinstance(value, list):
        return sum(len(element) for element in value if isinstance(element, str))
    return len(value) if isinstance(value, str) else 0


def _valid_range(range_: Range) -> Range:
    if not range_ or range_.get("min", -float("inf")) > range_.get("max", float("inf")):
        raise PydanticCustomError("range", "A range needs min or max, and min must not be above max")
    return range_


def _describe_one_or_list(schema: dict[str, Any]) -> None:
    listed = {name: schema.pop(name) for name in ("type", "items", "minItems", "maxItems")}
    schema["anyOf"] = [listed["items"], listed]
