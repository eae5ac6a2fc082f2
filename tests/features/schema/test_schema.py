"""A schema is declared once, refuses contradictions, and is equal after it is written and read as JSON."""

import dataclasses
from pathlib import Path

import pytest

from common.errors import SchemaError
from common.params import Aggregate, Encode
from features.engine.feature_views import feature_views
from features.quality.bounds import describe_bounds, number_bounds
from features.schema import (
    Column,
    DType,
    Kind,
    Role,
    Schema,
    Task,
    inputs,
    inputs_from,
    read_schema,
    read_views,
    to_json,
)
from tests.support import world

pytestmark = pytest.mark.unit

SCHEMA = world.schema()
VIEWS = feature_views(SCHEMA, Aggregate(windows=[7], prior_impressions=1, recent_items=5, delay_minutes=0))


POSITION = Column(name="rank", role=Role.POSITION, dtype=DType.INT64)


def test_schema_and_views_are_equal_after_json(tmp_path: Path) -> None:
    """Written and read, schema and views are equal, and so is the fingerprint."""
    (tmp_path / "schema.json").write_text(to_json(SCHEMA))
    (tmp_path / "views.json").write_text(to_json(VIEWS))
    assert read_schema(tmp_path / "schema.json") == SCHEMA
    assert read_schema(tmp_path / "schema.json").fingerprint() == SCHEMA.fingerprint()
    assert read_views(tmp_path / "views.json") == VIEWS


def test_any_change_changes_the_fingerprint() -> None:
    """A schema with another scenario, task or bound is another schema."""
    hour = dataclasses.replace(SCHEMA.context[0], maximum=24)
    bounded = dataclasses.replace(SCHEMA, events=tuple(hour if c.name == "hour" else c for c in SCHEMA.events))
    others = (world.schema(scenarios=("feed", "search")), bounded, dataclasses.replace(SCHEMA, name="other"))
    assert len({SCHEMA.fingerprint(), *(other.fingerprint() for other in others)}) == 4


def test_a_position_is_no_input_and_counts_from_0() -> None:
    """No model sees it; below 0 it is out of bounds, even where no minimum is declared; its type is int64."""
    schema = dataclasses.replace(SCHEMA, events=(*SCHEMA.events, POSITION))
    assert (schema.position, SCHEMA.position) == ("rank", None)
    assert inputs(schema, VIEWS) == inputs(SCHEMA, VIEWS)
    assert (number_bounds(POSITION), describe_bounds(POSITION)) == ((0, None), "is at least 0")
    for wrong in ({"minimum": -1}, {"dtype": DType.STRING}, {"kind": Kind.CATEGORICAL}):
        with pytest.raises(SchemaError, match="column rank: a position"):
            dataclasses.replace(POSITION, **wrong)


def test_columns_have_roles() -> None:
    """Ids, scenario, context and labels of the tiny world, each by its role; no label is an input."""
    assert (SCHEMA.user, SCHEMA.item, SCHEMA.scenario, SCHEMA.timestamp) == (
        "user_id",
        "item_id",
        "scenario",
        "timestamp",
    )
    assert [column.name for column in SCHEMA.context] == ["hour"]
    assert SCHEMA.task_names == ("click", "order")
    names = [column.name for column in inputs(SCHEMA, VIEWS)]
    assert names[:4] == ["user_id", "item_id", "scenario", "hour"]
    assert not {"click", "order", "event_id", "timestamp", "registered_at"} & set(names)


def test_a_weight_is_no_input_and_there_is_one_of_an_impression() -> None:
    """The schema names it; no model reads it. Two, or one of users, are refused."""
    weight = Column(name="w", role=Role.WEIGHT, dtype=DType.FLOAT32)
    weighted = dataclasses.replace(SCHEMA, events=(*SCHEMA.events, weight))
    assert (SCHEMA.weight, weighted.weight) == (None, "w")
    assert "w" not in [column.name for column in inputs(weighted, VIEWS)]
    other = dataclasses.replace(weight, name="v")
    for table, columns in (("events", (*weighted.events, other)), ("users", (*SCHEMA.users, other))):
        with pytest.raises(SchemaError, match=r"at most one column of role weight, in events, found .*\.v"):
            dataclasses.replace(SCHEMA, **{table: columns})


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["impression"], {"user_id", "item_id", "scenario", "hour"}),
        (["profile"], {"city", "price", "tags"}),
        (["impression", "profile"], {"user_id", "item_id", "scenario", "hour", "city", "price", "tags"}),
    ],
)
def test_sources_select_the_inputs_of_the_model(sources: list, expected: set[str]) -> None:
    """`sources` selects the impression's own columns, the profiles, or the statistics; labels are in none."""
    assert {c.name for c in inputs_from(SCHEMA, VIEWS, sources)} == expected
    every = inputs_from(SCHEMA, VIEWS, Encode(**world.section("encode")).sources)
    assert every == inputs(SCHEMA, VIEWS)
    assert not {"click", "order"} & {column.name for column in every}


def replaced(**changes: object) -> Schema:
    """The tiny schema with changes."""
    return dataclasses.replace(SCHEMA, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"events": SCHEMA.events[1:]}, "events needs exactly one column of role event_id"),
        ({"users": (*SCHEMA.users, SCHEMA.events[5])}, "declared twice"),
        ({"scenarios": ("feed", "feed")}, "scenarios must be distinct"),
        ({"tasks": SCHEMA.tasks[:1]}, "must agree"),
        (
            {"items": (*SCHEMA.items, POSITION)},
            r"of role position, in events, found \['items.rank'\]",
        ),
        ({"events": (*SCHEMA.events, POSITION, dataclasses.replace(POSITION, name="place_2"))}, "at most one column"),
        ({"tasks": (Task(name="click"), Task(name="order", requires="view"))}, "requires unknown task view"),
    ],
)
def test_a_contradiction_is_an_error_with_its_reason(changes: dict, message: str) -> None:
    """A schema that cannot work raises an error where it is declared."""
    with pytest.raises(SchemaError, match=message):
        replaced(**changes)
