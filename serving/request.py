"""The request of POST /rank: its type is made from the schema.

Fields have the same names whatever the log calls its columns. Strict: "1" is not 1, true is not 1, an unknown field
is an error.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from errors import ParameterError
from features.schema import Column, DType, Role, Schema
from params import Serve

STRICT = ConfigDict(extra="forbid", strict=True)
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Field(allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_TYPES: dict[DType, Any] = {
    DType.INT64: Int64,
    DType.FLOAT32: Float,
    DType.STRING: str,
    DType.INT64_LIST: list[Int64],
    DType.STRING_LIST: list[str],
}


class RankRequest(BaseModel):
    """What every request holds; `request_type` narrows it to one schema."""

    model_config = STRICT

    user_id: Any
    scenario: Any
    item_ids: Any
    objective: Any
    context: Any


def request_type(schema: Schema, settings: Serve) -> type[RankRequest]:
    """The type of a request to rank items of `schema`; raises ParameterError where a task has no default weight."""
    weights = default_objective(schema, settings)
    fields: dict[str, Any] = {
        "user_id": (_identifier(schema, Role.USER), Field(description="For whom")),
        "scenario": (Literal[schema.scenarios], Field(description="Where")),
        "item_ids": (_items(schema, settings), Field(description="What: distinct items")),
        "objective": (
            _record("Objective", dict.fromkeys(weights, Weight), total=True),
            Field(default=weights, description="score = sum of weight x probability; a weight for every task"),
        ),
        "context": (
            _record("Context", _context(schema), total=False),
            Field(default={}, description="What else is known of the moment; what is left out is unknown"),
        ),
    }
    request: type[RankRequest] = pydantic.create_model("RankRequest", __base__=RankRequest, **fields)
    request.__doc__ = f"Items of {schema.name} to be ranked for one user in one scenario."
    request.model_config["json_schema_extra"] = {"example": example(schema)}
    return request


def default_objective(schema: Schema, settings: Serve) -> dict[str, float]:
    """The weight of each task in params.serve.objective; raises ParameterError that names tasks without one.

    And tasks that can have none: of several classes none is better, so they are in the answer but not in the score.
    """
    classes = [task for task in schema.task_names if task in settings.objective and task not in schema.rated]
    if classes:
        raise ParameterError(
            f"serve.objective has a weight for {', '.join(classes)}, a multi_class task of {schema.name}: no class is "
            "better than another, so it cannot be in the score; take it out of serve.objective in params.yaml"
        )
    if not schema.rated:
        raise ParameterError(f"{schema.name} has multi_class tasks only: there is nothing to rank items by")
    missing = [task for task in schema.rated if task not in settings.objective]
    if missing:
        raise ParameterError(
            f"serve.objective has no weight for {', '.join(missing)}, a task of {schema.name}: "
            f"add `{missing[0]}: 1.0` to serve.objective in params.yaml (0 leaves the task out of the score)"
        )
    return {task: settings.objective[task] for task in schema.rated}


def example(schema: Schema) -> dict[str, Any]:
    """A request that is valid for `schema`; whether its ids exist is another matter."""
    user, item = (int if schema.by_role(role)[0].dtype is DType.INT64 else str for role in (Role.USER, Role.ITEM))
    return {"user_id": user(1), "scenario": schema.scenarios[0], "item_ids": [item(number) for number in (1, 2, 3)]}


def _identifier(schema: Schema, role: Role) -> Any:
    return _TYPES[schema.by_role(role)[0].dtype]


def _items(schema: Schema, settings: Serve) -> Any:
    element: Any = _identifier(schema, Role.ITEM)
    bounds = Field(min_length=1, max_length=settings.maximum_items)
    return Annotated[list[element], bounds, AfterValidator(_distinct)]


def _distinct(values: list[Any]) -> list[Any]:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise PydanticCustomError("distinct", "Items must be distinct, found {item} more than once", {"item": twice[0]})
    return values


def _record(name: str, fields: Mapping[str, Any], *, total: bool) -> Any:
    """A mapping with these keys; a TypedDict, since a column may have a name that no attribute can have."""
    return pydantic.with_config(STRICT)(TypedDict(name, fields, total=total))  # type: ignore[operator]


def _context(schema: Schema) -> dict[str, Any]:
    return {
        c.name: Annotated[_bounded(c) | None, Field(description=c.desc or c.name, json_schema_extra=_nullable)]
        for c in schema.context
    }


def _nullable(schema: dict[str, Any]) -> None:
    """Say "or null" as OpenAPI 3.0 says it."""
    schema |= schema.pop("anyOf")[0] | {"nullable": True}


def _bounded(column: Column) -> Any:
    """The type of a context column, with the bounds that the schema declares."""
    if column.values is not None and not column.is_list:
        return Literal[column.values]
    least = 0 if column.log and column.minimum is None else column.minimum  # no logarithm of what is negative
    element = _TYPES[column.dtype]
    return element if column.is_list else Annotated[element, Field(ge=least, le=column.maximum)]
