"""The body of POST /events: a pydantic type made from the schema, and the lines that the queue keeps.

An event may come several times, with its labels as they become known. User, item, scenario and timestamp are then those
of the first time.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from features.schema import Column, DType, Role, Schema
from serving.ranking.request_values import FLOAT32, STRICT, TEXT, ValueTypes

AHEAD = 60  # seconds that the clock of a caller may be ahead of ours
LONG = 2**63


class Event(BaseModel):
    """The fields of every event; `event_type` narrows them to one schema."""

    model_config = STRICT

    event_id: Annotated[int, Field(ge=-LONG, le=LONG - 1, description="Its id, under which its labels follow")]
    user_id: Any
    item_id: Any
    scenario: Any
    timestamp: Any
    labels: Any = None

    def line(self) -> bytes:
        """The event as the queue keeps it: JSON, the same for the same event."""
        microseconds = round(self.timestamp.timestamp() * 1e6)
        known = {task: label for task, label in sorted(self.labels.items()) if label is not None}
        return orjson.dumps([self.event_id, microseconds, self.user_id, self.item_id, self.scenario, known])


def event_type(schema: Schema, *, text: int = TEXT) -> type[Event]:
    """The type of an event of `schema`; an id or another text has at most `text` characters."""
    types = ValueTypes(text)
    user, item = (types.of(schema.by_role(role)[0].dtype) for role in (Role.USER, Role.ITEM))
    labels = {column.name: _label(types, column) for column in schema.by_role(Role.LABEL)}
    record = pydantic.with_config(STRICT)(TypedDict("Labels", labels, total=False))  # type: ignore[operator]
    fields: dict[str, Any] = {
        "user_id": (user, Field(description="To whom an item was shown")),
        "item_id": (item, Field(description="Which item")),
        "scenario": (Literal[schema.scenarios], Field(description="Where")),
        "timestamp": (
            Annotated[datetime, AfterValidator(_as_utc)],
            Field(description="When it was shown (ISO 8601, UTC where it has no zone)"),
        ),
        "labels": (
            Annotated[record, AfterValidator(lambda given: _consistent(schema, given))],
            Field(default={}, description="What is known of it by now; more may follow under the same id"),
        ),
    }
    event: type[Event] = pydantic.create_model("Event", __base__=Event, **fields)
    event.__doc__ = f"An item of {schema.name} that was shown to a user, and what is known of it."
    event.model_config["json_schema_extra"] = {"example": example_event(schema)}
    return event


def batch_type(accepted: type[Event], limit: int) -> Any:
    """The type of several events: a list of at most `limit`."""
    return Annotated[list[accepted], Field(min_length=1, max_length=limit)]  # type: ignore[valid-type]


def example_event(schema: Schema) -> dict[str, Any]:
    """An event that is valid for `schema`; its ids need not exist."""
    user, item = (int if schema.by_role(role)[0].dtype is DType.INT64 else str for role in (Role.USER, Role.ITEM))
    known = dict.fromkeys(schema.rated[:1], 1)
    shown = {"event_id": 1, "user_id": user(1), "item_id": item(1), "scenario": schema.scenarios[0]}
    return {**shown, "timestamp": "2026-01-18T12:00:00Z", "labels": known}


def _label(types: ValueTypes, column: Column) -> Any:
    """The type of a label, or null where it is not known yet."""
    if column.values is not None:
        return Annotated[Literal[column.values], BeforeValidator(_refuse_bool)] | None
    if column.dtype is DType.STRING:
        return types.of(column.dtype) | None
    kind = float if column.dtype is DType.FLOAT32 else int
    least = -FLOAT32 if column.minimum is None else column.minimum
    most = FLOAT32 if column.maximum is None else column.maximum
    return Annotated[kind, Field(ge=least, le=most)] | None


def _refuse_bool(label: Any) -> Any:
    """A literal type takes true for 1."""
    if isinstance(label, bool):
        raise PydanticCustomError("label", "Input should be a label, not true or false")
    return label


def _as_utc(timestamp: datetime) -> datetime:
    utc = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)
    if utc.timestamp() > time.time() + AHEAD:
        raise PydanticCustomError("future", "Timestamps should be at most {ahead} s ahead of now", {"ahead": AHEAD})
    return utc


def _consistent(schema: Schema, labels: Mapping[str, Any]) -> Mapping[str, Any]:
    for task in schema.tasks:
        if task.requires is not None and labels.get(task.name) == 1 and labels.get(task.requires) == 0:
            raise PydanticCustomError(
                "requires", "{task} 1 requires {other} 1, found 0", {"task": task.name, "other": task.requires}
            )
    return labels
