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
    Field,
    PrivateAttr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from common.errors import ParameterError
from common.serve_params import Serve
from features.engine.session_view import user_columns
from features.schema import Column, DType, Role, Schema, View
from serving.ranking.request_selection import diversify_type, exclude_type, seen_columns
from serving.ranking.request_values import FLOAT32, STRICT, TEXT, ValueTypes

ALL = "all"
Weight = Annotated[float, Field(ge=0, le=FLOAT32, allow_inf_nan=False)]  # sums stay finite


class RankRequest(BaseModel):
    """The fields of every request; `request_type` narrows them to one schema.

    `candidates` are distinct ids or ALL. `filters`: by column of the items a list of values (an item with one of them
    passes) or a range {"min", "max"}. `overrides`: {"user": {column: value}, "items": {column: [a value for each
    candidate, in order]}}. `k` is the length of the answer, None for all candidates that pass. `exclude` is
    {"items": ids, "seen": whether also the user's history}, `diversify` {"by": column, "most": items of one value,
    "first": ranks}; None where nothing is excluded or limited.
    """

    model_config = STRICT

    user_id: Any
    scenario: Any
    candidates: Any
    filters: Any = None
    exclude: Any = None
    diversify: Any = None
    k: int | None = None
    objective: Any = None
    context: Any = None
    overrides: Any = None
    explain: bool = False
    _size: int = PrivateAttr(default=0)

    @property
    def size(self) -> int:
        """Bytes of the body that the request was read from, from which what it takes in memory is estimated."""
        return self._size

    def of_size(self, size: int) -> "RankRequest":
        """Note that the request was read from `size` bytes; returns it."""
        self._size = size
        return self


def request_type(schema: Schema, settings: Serve, views: Iterable[View] = (), *, text: int = TEXT) -> type[RankRequest]:
    """The type of a request to rank items of `schema`; raises ParameterError where a task has no default weight.

    Features of `views` can be filtered by and overridden like those of the profiles. An id or another text has at most
    `text` characters.
    """
    types = ValueTypes(text)
    weights, limit = default_objective(schema, settings), settings.limits.candidates
    users, items = features_of(schema, "users", views), features_of(schema, "items", views)
    item = types.of(_dtype(schema, Role.ITEM))
    fields: dict[str, Any] = {
        "user_id": (types.of(_dtype(schema, Role.USER)), Field(description="For whom")),
        "scenario": (Literal[schema.scenarios], Field(description="Where")),
        "candidates": (
            _candidates(item, limit),
            Field(description='What: distinct items, or "all" that are known'),
        ),
        "filters": (
            _record("Filters", {c.name: types.filter(c) for c in items if not c.is_vector}, total=False),
            Field(default={}, description="Which candidates stay: by column of the items a value, values or a range"),
        ),
        "exclude": (
            exclude_type(item, limit, seen_columns(schema, users)),
            Field(default=None, description="Which candidates do not stay, by id or because the user has seen them"),
        ),
        "diversify": (
            diversify_type(items, limit),
            Field(default=None, description="At most how many items of one value the first ranks have"),
        ),
        "k": (
            _length(limit),
            Field(
                default=None, validate_default=True, description=f'How many; default: all, of "all" the best {limit:,}'
            ),
        ),
        "objective": (
            _record("Objective", dict.fromkeys(weights, Weight), total=True),
            Field(default=weights, description=_objective_text(schema)),
        ),
        "context": (
            types.of_user(
                _record("Context", {c.name: types.nullable(c) for c in schema.context}, total=False), schema.context
            ),
            Field(default={}, description="What else is known of the request; what is left out is unknown"),
        ),
        "overrides": (
            _overrides(types, users, items),
            Field(default={}, description="Features that the caller knows better than the store"),
        ),
        "explain": (bool, Field(default=False, description="Whether the answer says what its scores come from")),
    }
    request: type[RankRequest] = pydantic.create_model("RankRequest", __base__=RankRequest, **fields)
    request.__doc__ = f"Items of {schema.name} to be ranked for one user in one scenario."
    request.model_config["json_schema_extra"] = {"example": example_request(schema)}
    return request


def _objective_text(schema: Schema) -> str:
    values = "probability (of a number: expected value)" if schema.regressed else "probability"
    return f"score = sum of weight x {values}; a weight for every task"


def batch_type(accepted: type[RankRequest], settings: Serve) -> Any:
    """The type of a request to rank for several users: a list of `accepted`."""
    return Annotated[list[accepted], Field(min_length=1, max_length=settings.limits.batch)]  # type: ignore[valid-type]


def default_objective(schema: Schema, settings: Serve) -> dict[str, float]:
    """The weight of each task in params.serve.objective; of a binary task that it does not name, 1.

    Raises ParameterError for a regression task without a weight, whose unit only the user knows, and for a weight of a
    multi-class task: no class is better than another, so its probabilities are in the answer but not in the score.
    """
    classes = [task for task in schema.task_names if task in settings.objective and task not in schema.averaged]
    if classes:
        raise ParameterError(
            f"serve.objective has a weight for {', '.join(classes)}, a multi_class task of {schema.name}: no class is "
            "better than another, so it cannot be in the score; take it out of serve.objective in params.yaml"
        )
    if not schema.averaged:
        raise ParameterError(f"{schema.name} has multi_class tasks only: there is nothing to rank items by")
    missing = [task for task in schema.regressed if task not in settings.objective]
    if missing:
        raise ParameterError(
            f"serve.objective has no weight for {', '.join(missing)}, a regression task of {schema.name}: "
            f"add `{missing[0]}: 1.0`, the score of one unit, to serve.objective in params.yaml (0 leaves it out)"
        )
    return {task: settings.objective.get(task, 1.0) for task in schema.averaged}


def example_request(schema: Schema) -> dict[str, Any]:
    """A request that is valid for `schema`; its ids need not exist."""
    user, item = (int if _dtype(schema, role) is DType.INT64 else str for role in (Role.USER, Role.ITEM))
    return {"user_id": user(1), "scenario": schema.scenarios[0], "candidates": [item(number) for number in (1, 2, 3)]}


def _dtype(schema: Schema, role: Role) -> DType:
    return schema.by_role(role)[0].dtype


def features_of(schema: Schema, table: Literal["users", "items"], views: Iterable[View]) -> list[Column]:
    """The features of users, or of items, that a request may name: of their profile and of their views."""
    of_views = (c for view in views if (schema.item in view.keys) == (table == "items") for c in user_columns(view))
    features = (column for column in (*schema.profile(table), *of_views) if column.is_feature)
    return list({column.name: column for column in features}.values())


def _candidates(element: Any, limit: int) -> Any:
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


def _overrides(types: ValueTypes, users: list[Column], items: list[Column]) -> Any:
    of_user = _record("UserFeatures", {c.name: types.nullable(c) for c in users}, total=False)
    of_items = _record("ItemFeatures", {c.name: _list_of(types.nullable(c)) for c in items}, total=False)
    of_user = types.of_user(of_user, users)
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
