"""The type of POST /rank: what it accepts, and how it reports what it does not accept."""

import dataclasses
import json
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import params
from common.errors import ParameterError
from common.paths import ROOT
from common.serve_params import Serve, ServeLimits, ServeLog
from features.datasets.simulation import dataset as simulation
from features.engine.feature_views import feature_views
from features.schema import Column, DType, Kind, Role, Schema, Task, TaskKind
from serving.http.problem_details import MAX_RULES, MAX_VALUE, ProblemError, validation_problem
from serving.ranking.request import RankRequest, batch_type, example_request, request_type
from tests.support import travel_log, world

PARAMS = params.load(ROOT / "params.yaml")
LOG = ServeLog(folder=None, sample=1.0, rows_per_file=10, seconds=1.0)
LIMITS = ServeLimits(candidates=5, batch=2, events=3, body_bytes=10_000, concurrent=4, seconds=1.0)
THOUSAND = LIMITS.model_copy(update={"candidates": 1000})

pytestmark = pytest.mark.unit


def serve(**changes: Any) -> Serve:
    """The section `serve` of params.yaml with changes."""
    return Serve(**world.section("serve") | changes)


SERVE = serve(objective={"click": 1.0, "order": 4.0, "like": 2.0}, limits=LIMITS, log=LOG)
ACCEPTED = request_type(world.schema(), SERVE)
VALID = {"user_id": 1, "scenario": "feed", "candidates": [1, 2, 3]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def problem_with(body: Any, accepted: type[RankRequest] = ACCEPTED) -> ProblemError:
    """The problem of a `body` that is not valid."""
    with pytest.raises(pydantic.ValidationError) as caught:
        accepted.model_validate(body)
    return validation_problem(caught.value)


def changed(schema: Schema, **changes: Any) -> Schema:
    """`schema` with other attributes of the columns that the keywords name."""
    tables = {
        name: tuple(dataclasses.replace(c, **changes.get(c.name, {})) for c in columns)
        for name, columns in schema.tables.items()
    }
    return dataclasses.replace(schema, **tables)


def test_objective_defaults_to_the_parameters_for_the_tasks_of_the_schema() -> None:
    """The weight of a task that only another data set has is left out."""
    assert ACCEPTED(**VALID).objective == {"click": 1.0, "order": 4.0}


def test_a_binary_task_without_a_weight_has_weight_one() -> None:
    """An own log is ranked without an edit of the parameters."""
    accepted = request_type(world.schema(), serve(objective={"click": 0.5}, limits=LIMITS, log=LOG))
    assert accepted(**VALID).objective == {"click": 0.5, "order": 1.0}


def test_a_regression_task_without_a_weight_is_a_wrong_parameter() -> None:
    """Its unit is the user's: the message names the task and where its weight belongs."""
    watched = Column(name="watched", role=Role.LABEL, dtype=DType.FLOAT32, nullable=True)
    task = Task(name="watched", kind=TaskKind.REGRESSION)
    schema = world.schema()
    schema = dataclasses.replace(schema, tasks=(*schema.tasks, task), events=(*schema.events, watched))
    with pytest.raises(ParameterError, match=r"no weight for watched.*score of one unit, to serve.objective"):
        request_type(schema, SERVE)


def test_classes_are_not_in_the_score() -> None:
    """A weight for a multi-class task is a wrong parameter, and so is a schema with multi-class tasks only."""
    accepted = request_type(travel_log.schema(), serve(objective={"where": 1.0, "via": 0.5}, limits=LIMITS, log=LOG))
    request = accepted(user_id=1, scenario="commute", candidates=[1, 2])
    assert request.objective == {"where": 1.0, "via": 0.5}
    with pytest.raises(ParameterError, match=r"weight for when, a multi_class task of travel.*take it out of"):
        request_type(
            travel_log.schema(), serve(objective={"when": 1.0, "where": 1.0, "via": 0.5}, limits=LIMITS, log=LOG)
        )
    events = tuple(c for c in travel_log.schema().events if c.name not in ("where", "via", "trip"))
    classes = dataclasses.replace(travel_log.schema(), tasks=travel_log.schema().tasks[:2], events=events)
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
        ({"candidates": []}, "candidates", "at least 1 item"),
        ({"candidates": [1, 2, 3, 4, 5, 6]}, "candidates", "at most 5 items"),
        ({"candidates": [1, 2, 1]}, "candidates", "distinct, found 1 more than once"),
        ({"candidates": [1, "2"]}, "candidates.1", "valid integer, found '2'"),
        ({"candidates": 1}, "candidates", "a list, found 1"),
        ({"objective": {"click": 1}}, "objective.order", "required"),
        ({"objective": {"click": 1, "order": 1, "like": 1}}, "objective.like", "not permitted"),
        ({"objective": {"click": -1, "order": 1}}, "objective.click", "greater than or equal to 0, found -1"),
        ({"objective": {"click": float("nan"), "order": 1}}, "objective.click", "finite number, found nan"),
        ({"context": {"hour": 24}}, "context.hour", "less than or equal to 23, found 24"),
        ({"context": {"hour": "12"}}, "context.hour", "valid integer, found '12'"),
        ({"context": {"minute": 1}}, "context.minute", "not permitted"),
        ({"context": {"hour": -1}}, "context.hour", "greater than or equal to 0, found -1"),
        ({"candidates": "some"}, "candidates", "a list of items, or \"all\", found 'some'"),
        ({"k": 0}, "k", "greater than or equal to 1, found 0"),
        ({"k": 6}, "k", "less than or equal to 5, found 6"),
        ({"k": True}, "k", "valid integer, found True"),
        ({"filters": {"price": 3}}, "filters.price", "found 3"),
        ({"filters": {"price": {}}}, "filters.price", "needs min or max"),
        ({"filters": {"price": {"min": 2, "max": 1}}}, "filters.price", "min must not be above max"),
        ({"filters": {"price": {"from": 1}}}, "filters.price.from", "not permitted"),
        ({"filters": {"tags": []}}, "filters.tags", "at least 1 item"),
        ({"filters": {"tags": [3]}}, "filters.tags.0", "valid string, found 3"),
        ({"filters": {"city": "north"}}, "filters.city", "not permitted"),
        ({"overrides": {"user": {"city": 3}}}, "overrides.user.city", "valid string, found 3"),
        ({"overrides": {"user": {"price": 3}}}, "overrides.user.price", "not permitted"),
        ({"overrides": {"items": {"price": [1, 2, -1]}}}, "overrides.items.price.2", "greater than or equal to 0"),
        ({"overrides": {"items": {"price": [1, 2]}}}, "overrides", "items.price must have a value for each of the 3"),
        ({"candidates": "all", "overrides": {"items": {"price": [1]}}}, "overrides", "where candidates are listed"),
        ({"exclude": 3}, "exclude", 'a list of items, "seen", or an object with both, found 3'),
        ({"exclude": "all"}, "exclude", 'a list of items, "seen", or an object with both, found'),
        ({"exclude": "seen"}, "exclude", "No feature of the user is a list of items"),
        ({"exclude": {"seen": True}}, "exclude.seen", "not permitted"),
        ({"exclude": [1, "2"]}, "exclude.items.1", "valid integer, found '2'"),
        ({"exclude": [1, 2, 3, 4, 5, 6]}, "exclude.items", "at most 5 items"),
        ({"diversify": {"by": "price", "most": 1}}, "diversify.by", "Input should be 'tags', found 'price'"),
        ({"diversify": {"by": "tags"}}, "diversify.most", "required"),
        ({"diversify": {"by": "tags", "most": 0}}, "diversify.most", "greater than or equal to 1, found 0"),
        ({"diversify": {"by": "tags", "most": 1, "first": 6}}, "diversify.first", "less than or equal to 5, found 6"),
        ({"diversify": "tags"}, "diversify", "an object, found 'tags'"),
        ({"explain": 1}, "explain", "valid boolean, found 1"),
        ({"top": 1}, "top", "not permitted"),
    ],
)
def test_a_broken_rule_is_reported_with_field_and_rule(change: dict, field: str, rule: str) -> None:
    """One broken rule is one line: where, what is expected, what was found."""
    problem = problem_with(VALID | change)
    assert [broken.field for broken in problem.errors] == [field]
    assert rule in problem.errors[0].rule
    assert problem.detail == f"{field}: {problem.errors[0].rule}"


@pytest.mark.parametrize("field", ["user_id", "scenario", "candidates"])
def test_a_missing_field_is_named(field: str) -> None:
    """User, scenario and candidates are required."""
    assert problem_with({k: v for k, v in VALID.items() if k != field}).detail == f"{field}: Field required"


def test_context_may_be_null() -> None:
    """Null means unknown, which a typed client cannot leave out."""
    assert ACCEPTED(**VALID, context={"hour": None}).context == {"hour": None}


def test_an_answer_to_all_candidates_is_bounded() -> None:
    """Of listed candidates all are answered; of "all", `k`, by default as many as a request can list."""
    assert ACCEPTED(**VALID).k is None
    assert ACCEPTED(**VALID | {"candidates": "all"}).k == LIMITS.candidates
    assert ACCEPTED(**VALID | {"candidates": "all"}, k=2).k == 2


def test_a_filter_is_a_list_of_values_or_a_range() -> None:
    """A single value becomes a list of one; a range has one end or two."""
    filters = {"tags": "hot", "price": {"max": 3}}
    assert ACCEPTED(**VALID, filters=filters).filters == {"tags": ["hot"], "price": {"max": 3.0}}
    assert ACCEPTED(**VALID, filters={"tags": ["hot", "new"]}).filters == {"tags": ["hot", "new"]}


def test_an_exclusion_is_a_list_or_what_was_seen_or_both() -> None:
    """Each way of saying it becomes the same record; ids may repeat, and none excludes nothing."""
    accepted = request_type(world.schema(), SERVE, feature_views(world.schema(), PARAMS.aggregate))
    both = {"items": [4], "seen": True}
    for body, record in (([4, 4], {"items": [4, 4]}), ("seen", {"seen": True}), (both, both), (None, None)):
        assert accepted(**VALID, exclude=body).exclude == record
    assert accepted(**VALID).exclude is None


def test_a_data_set_without_groups_of_items_has_nothing_to_diversify_by() -> None:
    """Its request takes null only."""
    items = tuple(column for column in world.schema().items if column.name != "tags")
    accepted = request_type(dataclasses.replace(world.schema(), items=items), SERVE)
    assert accepted(**VALID, diversify=None).diversify is None
    assert problem_with(VALID | {"diversify": {"by": "price", "most": 1}}, accepted).errors[0].field == "diversify"


def test_features_of_the_views_can_be_filtered_by_and_overridden() -> None:
    """The type knows the columns of the given views, by their keys; without views it knows those of the profiles."""
    views = feature_views(world.schema(), PARAMS.aggregate)
    accepted = request_type(world.schema(), SERVE, views)
    names = {view.name: [column.name for column in view.columns if column.is_feature] for view in views}
    overridden = accepted.model_json_schema()["$defs"]
    assert list(overridden["UserFeatures"]["properties"]) == names["user"] + names["user_in_scenario"]
    assert list(overridden["ItemFeatures"]["properties"]) == names["item"] == list(overridden["Filters"]["properties"])
    recent = {"user": {"user_recent_items": [3, 4]}, "items": {"price": [1, 2.5, None]}}
    assert accepted(**VALID, overrides=recent).overrides == recent
    assert [f.field for f in problem_with(VALID | {"overrides": recent}).errors] == ["overrides.user.user_recent_items"]


def test_a_number_that_is_infinite_as_float32_is_refused() -> None:
    """Also where the schema declares no bounds."""
    accepted = request_type(with_unbounded_price(), SERVE)
    problem = problem_with(VALID | {"overrides": {"items": {"price": [1, 1e39, 2]}}}, accepted)
    assert problem.errors[0].field == "overrides.items.price.1"


def with_unbounded_price() -> Schema:
    """The tiny world with a price without bounds."""
    return changed(world.schema(), price={"minimum": None, "maximum": None, "log": False})


def test_a_batch_is_a_list_of_limited_length() -> None:
    """It has at least one request and at most as many as the parameters allow; a broken one is named by its index."""
    batch = pydantic.TypeAdapter(batch_type(ACCEPTED, SERVE))
    assert [request.user_id for request in batch.validate_python([VALID, VALID | {"user_id": 2}])] == [1, 2]
    for body, field in (([], "body"), ([VALID] * 3, "body"), ([VALID, VALID | {"k": 0}], "1.k")):
        with pytest.raises(pydantic.ValidationError) as caught:
            batch.validate_python(body)
        assert [broken.field for broken in validation_problem(caught.value).errors] == [field]


def test_ids_have_the_type_of_the_schema() -> None:
    """If the schema's ids are text, numbers are refused."""
    text = changed(world.schema(), user_id={"dtype": DType.STRING}, item_id={"dtype": DType.STRING})
    accepted = request_type(text, SERVE)
    assert accepted(**example_request(text)).user_id == "1"
    fields = [broken.field for broken in problem_with(VALID, accepted).errors]
    assert fields == ["user_id", "candidates.0", "candidates.1", "candidates.2"]


@pytest.mark.parametrize("name", ["schema", "_hour", "model_config", "in", "part of day"])
def test_a_context_column_may_have_any_name(name: str) -> None:
    """A name that is not a Python identifier is a key like any other."""
    accepted = request_type(changed(world.schema(), hour={"name": name}), SERVE)
    assert accepted(**VALID, context={name: 3}).context == {name: 3}


def test_context_is_bounded_as_declared() -> None:
    """Only declared values pass, and no number below a declared minimum."""
    feature = {"role": Role.FEATURE, "nullable": True}
    columns = (
        Column(name="device", dtype=DType.STRING, kind=Kind.CATEGORICAL, values=("ios", "web"), **feature),
        Column(name="distance", dtype=DType.FLOAT32, kind=Kind.NUMERIC, minimum=0, **feature),
        Column(name="words", dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=2, **feature),
    )
    schema = dataclasses.replace(world.schema(), events=world.schema().events + columns)
    accepted = request_type(schema, SERVE)
    assert accepted(**VALID, context={"device": "web", "distance": 0.5, "words": ["a", "b", "c"]})
    problem = problem_with(VALID | {"context": {"device": "tv", "distance": -0.5, "words": "a"}}, accepted)
    assert {broken.field for broken in problem.errors} == {"context.device", "context.distance", "context.words"}


def test_the_distance_of_the_simulation_may_come_with_a_request() -> None:
    """In kilometres, an integer or a float, null or absent if unknown; never negative."""
    accepted = request_type(simulation.declare(PARAMS.dataset), SERVE)
    body = {"user_id": 1, "scenario": "nearby", "candidates": [1, 2]}
    for context in ({"distance_km": 0.8}, {"distance_km": 3}, {"distance_km": None}, {"device": "ios"}):
        assert accepted(**body, context=context).context == context
    assert problem_with(body | {"context": {"distance_km": -0.5}}, accepted).errors[0].field == "context.distance_km"


def test_a_problem_stays_short() -> None:
    """Of a thousand wrong items the first ten are listed, and a long value is cut."""
    accepted = request_type(world.schema(), serve(objective=SERVE.objective, limits=THOUSAND, log=LOG))
    problem = problem_with(VALID | {"candidates": ["x" * 10_000] * 1000}, accepted)
    assert len(problem.errors) == MAX_RULES
    assert problem.detail.endswith("; and 990 more")
    assert len(problem.detail) < 2 * MAX_RULES * MAX_VALUE


@given(st.dictionaries(st.sampled_from(list(RankRequest.model_fields)) | st.text(max_size=5), JSON) | JSON)
def test_any_body_is_accepted_or_reported_as_json(body: Any) -> None:
    """Any JSON value, lone surrogates included, is a request or a problem that every client can read."""
    try:
        ACCEPTED.model_validate(body)
        return
    except pydantic.ValidationError as error:
        problem = validation_problem(error)
    assert json.loads(problem.body())["errors"]
