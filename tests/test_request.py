"""What POST /rank accepts, and what it says of what it does not accept."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
import travel
import world
from hypothesis import given
from hypothesis import strategies as st

import params
from errors import ParameterError
from features.datasets import simulation
from features.schema import Column, DType, Kind, Role, Schema
from params import Serve, ServeLog
from serving.answer import SHOWN, TOLD, Fault, fault_of
from serving.request import RankRequest, example, request_type

PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
LOG = ServeLog(folder=None, sample=1.0, rows_per_file=10, seconds=1.0)
SERVE = Serve(objective={"click": 1.0, "order": 4.0, "like": 2.0}, maximum_items=5, log=LOG)
ACCEPTED = request_type(world.schema(), SERVE)
VALID = {"user_id": 1, "scenario": "feed", "item_ids": [1, 2, 3]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def fault(body: Any, accepted: type[RankRequest] = ACCEPTED) -> Fault:
    """What is wrong with `body`."""
    with pytest.raises(pydantic.ValidationError) as caught:
        accepted.model_validate(body)
    return fault_of(caught.value.errors())


def changed(schema: Schema, **changes: Any) -> Schema:
    """`schema` with other values in the columns called like the keywords."""
    tables = {
        name: tuple(dataclasses.replace(c, **changes.get(c.name, {})) for c in columns)
        for name, columns in schema.tables.items()
    }
    return dataclasses.replace(schema, **tables)


def test_objective_defaults_to_the_parameters_for_the_tasks_of_the_schema() -> None:
    """A weight of a task that another log has is left out."""
    assert ACCEPTED(**VALID).objective == {"click": 1.0, "order": 4.0}


def test_a_task_without_a_default_weight_is_a_wrong_parameter() -> None:
    """The message names the task and where its weight belongs."""
    with pytest.raises(ParameterError, match=r"no weight for order.*add `order: 1.0` to serve.objective"):
        request_type(world.schema(), Serve(objective={"click": 1.0}, maximum_items=5, log=LOG))


def test_classes_are_not_in_the_score() -> None:
    """The objective is of what has a rate; a weight for a task of classes is a wrong parameter that says why."""
    accepted = request_type(travel.schema(), Serve(objective={"where": 1.0, "via": 0.5}, maximum_items=5, log=LOG))
    request = accepted(user_id=1, scenario="commute", item_ids=[1, 2])
    assert request.objective == {"where": 1.0, "via": 0.5}
    with pytest.raises(ParameterError, match=r"weight for when, a multi_class task of travel.*take it out of"):
        request_type(
            travel.schema(), Serve(objective={"when": 1.0, "where": 1.0, "via": 0.5}, maximum_items=5, log=LOG)
        )
    events = tuple(c for c in travel.schema().events if c.name not in ("where", "via", "trip"))
    classes = dataclasses.replace(travel.schema(), tasks=travel.schema().tasks[:2], events=events)
    with pytest.raises(ParameterError, match="nothing to rank items by"):
        request_type(classes, SERVE)


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"user_id": "1"}, "user_id", "valid integer, found '1'"),
        ({"user_id": 1.0}, "user_id", "valid integer, found 1.0"),
        ({"user_id": True}, "user_id", "valid integer, found True"),
        ({"user_id": None}, "user_id", "valid integer"),
        ({"user_id": 2**63}, "user_id", "less than or equal to 9223372036854775807, found 9223372036854775808"),
        ({"scenario": "home"}, "scenario", "'feed', 'search' or 'channel', found 'home'"),
        ({"item_ids": []}, "item_ids", "at least 1 item"),
        ({"item_ids": [1, 2, 3, 4, 5, 6]}, "item_ids", "at most 5 items"),
        ({"item_ids": [1, 2, 1]}, "item_ids", "distinct, found 1 more than once"),
        ({"item_ids": [1, "2"]}, "item_ids.1", "valid integer, found '2'"),
        ({"item_ids": 1}, "item_ids", "valid list, found 1"),
        ({"objective": {"click": 1}}, "objective.order", "required"),
        ({"objective": {"click": 1, "order": 1, "like": 1}}, "objective.like", "not permitted"),
        ({"objective": {"click": -1, "order": 1}}, "objective.click", "greater than or equal to 0, found -1"),
        ({"objective": {"click": float("nan"), "order": 1}}, "objective.click", "finite number, found nan"),
        ({"context": {"hour": 24}}, "context.hour", "less than or equal to 23, found 24"),
        ({"context": {"hour": "12"}}, "context.hour", "valid integer, found '12'"),
        ({"context": {"minute": 1}}, "context.minute", "not permitted"),
        ({"k": 1}, "k", "not permitted"),
    ],
)
def test_what_breaks_a_rule_is_told_with_field_and_rule(change: dict, field: str, rule: str) -> None:
    """One fault, one line: where, what is expected, what was found."""
    told = fault(VALID | change)
    assert [broken.field for broken in told.detail] == [field]
    assert rule in told.detail[0].rule
    assert told.error == f"{field}: {told.detail[0].rule}"


@pytest.mark.parametrize("field", ["user_id", "scenario", "item_ids"])
def test_a_missing_field_is_named(field: str) -> None:
    """Neither user, scenario nor items can be left out."""
    assert fault({k: v for k, v in VALID.items() if k != field}).error == f"{field}: Field required"


def test_context_may_be_null() -> None:
    """Null is what a typed client sends for what it does not know."""
    assert ACCEPTED(**VALID, context={"hour": None}).context == {"hour": None}


def test_ids_have_the_type_of_the_schema() -> None:
    """Where the log's ids are text, numbers are refused."""
    text = changed(world.schema(), user_id={"dtype": DType.STRING}, item_id={"dtype": DType.STRING})
    accepted = request_type(text, SERVE)
    assert accepted(**example(text)).user_id == "1"
    fields = [broken.field for broken in fault(VALID, accepted).detail]
    assert fields == ["user_id", "item_ids.0", "item_ids.1", "item_ids.2"]


@pytest.mark.parametrize("name", ["schema", "_hour", "model_config", "in", "part of day"])
def test_a_context_column_may_have_any_name(name: str) -> None:
    """A name that no attribute can have is still a key."""
    accepted = request_type(changed(world.schema(), hour={"name": name}), SERVE)
    assert accepted(**VALID, context={name: 3}).context == {name: 3}


def test_context_is_bounded_as_declared() -> None:
    """Closed sets stay closed; what the encoder takes the logarithm of is not negative."""
    feature = {"role": Role.FEATURE, "nullable": True}
    columns = (
        Column(name="device", dtype=DType.STRING, kind=Kind.CATEGORICAL, values=("ios", "web"), **feature),
        Column(name="distance", dtype=DType.FLOAT32, kind=Kind.NUMERIC, log=True, **feature),
        Column(name="words", dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=2, **feature),
    )
    schema = dataclasses.replace(world.schema(), events=world.schema().events + columns)
    accepted = request_type(schema, SERVE)
    assert accepted(**VALID, context={"device": "web", "distance": 0.5, "words": ["a", "b", "c"]})
    told = fault(VALID | {"context": {"device": "tv", "distance": -0.5, "words": "a"}}, accepted)
    assert {broken.field for broken in told.detail} == {"context.device", "context.distance", "context.words"}


def test_the_distance_of_the_simulation_may_come_with_a_request() -> None:
    """In kilometres, whole or not, null or left out where nobody knows it; never negative."""
    accepted = request_type(simulation.declare(PARAMS.dataset), SERVE)
    body = {"user_id": 1, "scenario": "nearby", "item_ids": [1, 2]}
    for context in ({"distance_km": 0.8}, {"distance_km": 3}, {"distance_km": None}, {"device": "ios"}):
        assert accepted(**body, context=context).context == context
    assert fault(body | {"context": {"distance_km": -0.5}}, accepted).detail[0].field == "context.distance_km"


def test_an_answer_stays_short() -> None:
    """A thousand wrong items are not told one by one, and a long value is not repeated."""
    accepted = request_type(world.schema(), Serve(objective=SERVE.objective, maximum_items=1000, log=LOG))
    told = fault(VALID | {"item_ids": ["x" * 10_000] * 1000}, accepted)
    assert len(told.detail) == TOLD
    assert told.error.endswith("; and 990 more")
    assert len(told.error) < 2 * TOLD * SHOWN


@given(st.dictionaries(st.sampled_from([*VALID, "objective", "context"]) | st.text(max_size=5), JSON) | JSON)
def test_whatever_comes_is_accepted_or_told_as_json(body: Any) -> None:
    """Any JSON at all, halves of characters too: a request, or a fault that every client can read."""
    try:
        ACCEPTED.model_validate(body)
    except pydantic.ValidationError as error:
        told = fault_of(error.errors())
        assert json.dumps(told.model_dump(), ensure_ascii=False).encode()
        assert told.detail
