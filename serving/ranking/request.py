"""The request of POST /rank: a pydantic type made from the schema of the data set.

Fields have the same names whatever the columns of the data set are called. Validation is strict: "1" is not 1, true
is not 1, an unknown field is an error.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from common.errors import ParameterError
from common.serve_params import Serve
from features.schema import Column, DType, Kind, Role, Schema, View

ALL = "all"
STRICT = ConfigDict(extra="forbid", strict=True)
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Float = Annotated[float, Field(allow_inf_nan=False)]
FLOAT32 = 3.4028234e38  # the largest float32
Weight = Annotated[float, Field(ge=0, le=FLOAT32, allow_inf_nan=False)]  # sums stay finite
_TYPES: dict[DType, Any] = {
    DType.INT64: Int64,
    DType.FLOAT32: Annotated[Float, Field(ge=-FLOAT32, le=FLOAT32)],
    DType.STRING: str,
    DType.INT64_LIST: list[Int64],
    DType.STRING_LIST: list[str],
}
_ELEMENTS: dict[DType, Any] = {DType.INT64_LIST: Int64, DType.STRING_LIST: str}


class RankRequest(BaseModel):
    """The fields of every request; `request_type` narrows them to one schema.

    `candidates` are distinct ids or ALL. `filters`: by column of the items a list of values (an item with one of them
    passes) or a range {"min", "max"}. `overrides`: {"user": {column: value}, "items": {column: [a value for each
    candidate, in order]}}. `k` is the length of the answer, None for all candidates that pass.
    """

    model_config = STRICT

    user_id: Any
    scenario: Any
    candidates: Any
    filters: Any
    k: int | None
    objective: Any
    context: Any
    overrides: Any
    explain: bool


def request_type(schema: Schema, settings: Serve, views: Iterable[View] = ()) -> type[RankRequest]:
    """The type of a request to rank items of `schema`; raises ParameterError where a task has no default weight.

    Features of `views` can be filtered by and overridden like those of the profiles.
    """
    weights, limit = default_objective(schema, settings), settings.limits.candidates
    users, items = features_of(schema, "users", views), features_of(schema, "items", views)
    fields: dict[str, Any] = {
        "user_id": (_identifier(schema, Role.USER), Field(description="For whom")),
        "scenario": (Literal[schema.scenarios], Field(description="Where")),
        "candidates": (_candidates(schema, limit), Field(description='What: distinct items, or "all" that are known')),
        "filters": (
            _record("Filters", {c.name: _filter(c) for c in items}, total=False),
            Field(default={}, description="Which candidates stay: by column of the items a value, values or a range"),
        ),
        "k": (
            _length(limit),
            Field(
                default=None, validate_default=True, description=f'How many; default: all, of "all" the best {limit:,}'
            ),
        ),
        "objective": (
            _record("Objective", dict.fromkeys(weights, Weight), total=True),
            Field(default=weights, description="score = sum of weight x probability; a weight for every task"),
        ),
        "context": (
            _record("Context", {c.name: _nullable(c) for c in schema.context}, total=False),
            Field(default={}, description="What else is known of the request; what is left out is unknown"),
        ),
        "overrides": (
            _overrides(users, items),
            Field(default={}, description="Features that the caller knows better than the store"),
        ),
        "explain": (bool, Field(default=False, description="Whether the answer says what its scores come from")),
    }
    request: type[RankRequest] = pydantic.create_model("RankRequest", __base__=RankRequest, **fields)
    request.__doc__ = f"Items of {schema.name} to be ranked for one user in one scenario."
    request.model_config["json_schema_extra"] = {"example": example_request(schema)}
    return request


def batch_type(accepted: type[RankRequest], settings: Serve) -> Any:
    """The type of a request to rank for several users: a list of `accepted`."""
    return Annotated[list[accepted], Field(min_length=1, max_length=settings.limits.batch)]  # type: ignore[valid-type]


def default_objective(schema: Schema, settings: Serve) -> dict[str, float]:
    """The weight of each task in params.serve.objective.

    Raises ParameterError for a task without a weight, and for a weight of a multi-class task: no class is better than
    another, so its probabilities are in the answer but not in the score.
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


def example_request(schema: Schema) -> dict[str, Any]:
    """A request that is valid for `schema`; its ids need not exist."""
    user, item = (int if schema.by_role(role)[0].dtype is DType.INT64 else str for role in (Role.USER, Role.ITEM))
    return {"user_id": user(1), "scenario": schema.scenarios[0], "candidates": [item(number) for number in (1, 2, 3)]}


def _identifier(schema: Schema, role: Role) -> Any:
    return _TYPES[schema.by_role(role)[0].dtype]


def features_of(schema: Schema, table: Literal["users", "items"], views: Iterable[View]) -> list[Column]:
    """The features of users, or of items, that a request may name: of their profile and of their views."""
    of_views = (c for view in views if (schema.item in view.keys) == (table == "items") for c in view.columns)
    features = (column for column in (*schema.profile(table), *of_views) if column.is_feature)
    return list({column.name: column for column in features}.values())


def _candidates(schema: Schema, limit: int) -> Any:
    element: Any = _identifier(schema, Role.ITEM)
    bounds = Field(min_length=1, max_length=limit, json_schema_extra=_describe_list_or_all)
    return Annotated[list[element], bounds, AfterValidator(_distinct), WrapValidator(_list_or_all)]


def _list_or_all(value: Any, validate_list: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, str) and value != ALL:
        raise PydanticCustomError("candidates", f'Input should be a list of items, or "{ALL}"')
    return value if value == ALL else validate_list(value)


def _describe_list_or_all(schema: dict[str, Any]) -> None:
    listed = {name: schema.pop(name) for name in ("type", "items", "minItems", "maxItems")} | {"uniqueItems": True}
    schema["anyOf"] = [listed, {"type": "string", "enum": [ALL]}]


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) == len(values):
        return values
    repeated = [value for value, count in Counter(values).items() if count > 1]
    raise PydanticCustomError("distinct", "Items must be distinct, found {item} more than once", {"item": repeated[0]})


def _length(limit: int) -> Any:
    def bounded(k: int | None, info: ValidationInfo) -> int | None:
        """Without `k`, an answer to ALL has at most as many items as a request can list."""
        return limit if k is None and info.data.get("candidates") == ALL else k

    return Annotated[Annotated[int, Field(ge=1, le=limit)] | None, AfterValidator(bounded)]


@pydantic.with_config(STRICT)
class Range(TypedDict, total=False):
    """From `min` to `max`, both included; either may be left out."""

    min: Float
    max: Float


def _filter(column: Column) -> Any:
    """The type of a filter by this column: a range for a number, else a value or a list of values."""
    if column.kind is Kind.NUMERIC:
        return Annotated[Range, AfterValidator(_valid_range), Field(description=column.desc)]
    element: Any = _ELEMENTS.get(column.dtype) or _bounded(column)
    shown = Field(min_length=1, description=column.desc, json_schema_extra=_describe_one_or_list)
    return Annotated[list[element], shown, BeforeValidator(lambda v: v if isinstance(v, list) else [v])]


def _valid_range(range_: Range) -> Range:
    if not range_ or range_.get("min", -float("inf")) > range_.get("max", float("inf")):
        raise PydanticCustomError("range", "A range needs min or max, and min must not be above max")
    return range_


def _describe_one_or_list(schema: dict[str, Any]) -> None:
    listed = {name: schema.pop(name) for name in ("type", "items", "minItems")}
    schema["anyOf"] = [listed["items"], listed]


def _overrides(users: Iterable[Column], items: Iterable[Column]) -> Any:
    of_user = _record("UserFeatures", {c.name: _nullable(c) for c in users}, total=False)
    of_items = _record("ItemFeatures", {c.name: _list_of(_nullable(c)) for c in items}, total=False)
    both = _record("Overrides", {"user": of_user, "items": of_items}, total=False)
    return Annotated[both, AfterValidator(_value_per_candidate)]


def _list_of(element: Any) -> Any:
    return list[element]


def _value_per_candidate(overrides: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    """Overridden features of items are parallel to the candidates: one value for each."""
    candidates, items = info.data.get("candidates"), overrides.get("items")
    if items and candidates == ALL:
        raise PydanticCustomError("overrides", "items can be overridden where candidates are listed only")
    for name, values in (items or {}).items():
        if candidates is not None and len(values) != len(candidates):
            raise PydanticCustomError(
                "overrides",
                "items.{name} must have a value for each of the {expected} candidates, found {found}",
                {"name": name, "expected": len(candidates), "found": len(values)},
            )
    return overrides


def _record(name: str, fields: Mapping[str, Any], *, total: bool) -> Any:
    """A TypedDict with these keys: a column may have a name that is not a Python identifier."""
    return pydantic.with_config(STRICT)(TypedDict(name, fields, total=total))  # type: ignore[operator]


def _nullable(column: Column) -> Any:
    """The type of a value of the column, or null for an unknown one."""
    return Annotated[_bounded(column) | None, Field(description=column.desc or column.name)]


def _bounded(column: Column) -> Any:
    """The type of a value of the column, with the bounds that the schema declares."""
    if column.values is not None and not column.is_list:
        return Literal[column.values]
    minimum = 0 if column.log and column.minimum is None else column.minimum  # the encoder takes its logarithm
    element = _TYPES[column.dtype]
    return element if column.is_list else Annotated[element, Field(ge=minimum, le=column.maximum)]
