"""The types of `exclude` and `diversify` in a request, made from the columns of a schema."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, NotRequired

import pydantic
from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from features.schema import Column, Kind, Role, Schema
from serving.ranking.request_values import STRICT

SEEN = "seen"
GROUPS = (Kind.CATEGORICAL, Kind.MULTI_VALUED, Kind.SEQUENCE)  # kinds of columns with values that items have in common


def seen_columns(schema: Schema, users: Iterable[Column]) -> tuple[str, ...]:
    """Which of the features `users` are histories: lists of items, in the vocabulary of the item id."""
    (item,) = schema.by_role(Role.ITEM)
    return tuple(c.name for c in users if c.is_list and c.vocabulary in (schema.item, item.vocabulary))


def exclude_type(element: Any, limit: int, histories: Sequence[str]) -> Any:
    """The type of `exclude`: at most `limit` items of type `element`, SEEN, or a record of both; None: nothing.

    A valid value is always the record. SEEN is refused where there are no `histories` (columns).
    """
    items = Annotated[list[element], Field(max_length=limit, description="Items by id")]
    seen = Annotated[bool, Field(description=f"Whether also those in the user's history: {', '.join(histories)}")]
    fields = {"items": items} | ({SEEN: seen} if histories else {})
    record = pydantic.with_config(STRICT)(TypedDict("Exclusion", fields, total=False))  # type: ignore[operator]

    def as_record(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, list):
            return validate({"items": value})
        return validate(value if isinstance(value, dict) else _shorthand(value, histories))

    def describe(schema: dict[str, Any]) -> None:
        listed = {"type": "array", "items": _schema_of(element), "maxItems": limit}
        short = [listed, {"type": "string", "enum": [SEEN]}] if histories else [listed]
        schema["anyOf"] = [*short, dict(schema)]
        for name in [name for name in schema if name != "anyOf"]:
            del schema[name]

    shown = Field(json_schema_extra=describe)
    return Annotated[record, WrapValidator(as_record), shown] | None


def diversify_type(items: Iterable[Column], limit: int) -> Any:
    """The type of `diversify` by one of the features `items`; None alone where no column has values in common."""
    names = tuple(column.name for column in items if column.kind in GROUPS)
    if not names:
        return None
    fields = {
        "by": Annotated[Literal[names], Field(description="Column of the items")],
        "most": Annotated[int, Field(ge=1, le=limit, description="Items of one value")],
        "first": NotRequired[
            Annotated[
                Annotated[int, Field(ge=1, le=limit)] | None,
                Field(description="Ranks in which the limit holds; default: all of the answer"),
            ]
        ],
    }
    return pydantic.with_config(STRICT)(TypedDict("Diversity", fields)) | None  # type: ignore[operator]


def _shorthand(value: object, histories: Sequence[str]) -> dict[str, Any]:
    if value != SEEN:
        raise PydanticCustomError("exclude", f'Input should be a list of items, "{SEEN}", or an object with both')
    if not histories:
        raise PydanticCustomError("exclude", "No feature of the user is a list of items: list what was seen by id")
    return {SEEN: True}


def _schema_of(element: Any) -> dict[str, Any]:
    return pydantic.TypeAdapter(element).json_schema()
