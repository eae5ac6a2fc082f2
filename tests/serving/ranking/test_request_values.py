"""The types of the values of a request: texts and lists are bounded in length."""

import dataclasses
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import params
from common.paths import PARAMS, ROOT
from features.engine.feature_views import feature_views
from features.schema import Column, DType, Kind, Role, Schema
from serving.http.problem_details import MAX_ERRORS, MAX_TEXT, Problem, validation_problem
from serving.ranking.request import RankRequest, request_type
from serving.ranking.request_values import LIST_VALUES, TEXT, TEXT_OF_USER, text_limit
from tests.support import world

SETTINGS = params.load(ROOT / PARAMS)
WORDS = Column(
    name="words", role=Role.FEATURE, dtype=DType.STRING_LIST, kind=Kind.MULTI_VALUED, length=2, nullable=True
)
VALID = {"user_id": "1", "scenario": "feed", "candidates": ["1", "2"]}
pytestmark = pytest.mark.unit


def text_schema() -> Schema:
    """The tiny world with ids as text, and a list of words in the context."""
    tables = {}
    for name, columns in world.schema().tables.items():
        ids = (c.role in (Role.USER, Role.ITEM) for c in columns)
        tables[name] = tuple(
            dataclasses.replace(c, dtype=DType.STRING) if is_id else c for c, is_id in zip(columns, ids, strict=True)
        )
    return dataclasses.replace(world.schema(), **tables | {"events": (*tables["events"], WORDS)})


SCHEMA = text_schema()
VIEWS = feature_views(SCHEMA, SETTINGS.aggregate)
ACCEPTED = request_type(SCHEMA, SETTINGS.serve, VIEWS)


def broken(body: Any, accepted: type[RankRequest] = ACCEPTED) -> Problem:
    """The problem of a body that is not valid; it stays short whatever the body is."""
    with pytest.raises(pydantic.ValidationError) as caught:
        accepted.model_validate(body)
    raised = validation_problem(caught.value)
    assert raised.status_code == 422
    assert len(raised.body()) < 40_000
    return Problem.model_validate_json(raised.body())


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("user_id", ("user_id",)),
        ("candidates.1", ("candidates", 1)),
        ("filters.tags.0", ("filters", "tags")),
        ("context.words.0", ("context", "words", 0)),
        ("overrides.user.city", ("overrides", "user", "city")),
        ("overrides.items.tags.1.0", ("overrides", "items", "tags", 1, 0)),
        ("overrides.user.user_recent_items.0", ("overrides", "user", "user_recent_items", 0)),
    ],
)
def test_a_text_has_a_longest_length_wherever_it_stands(field: str, path: tuple[Any, ...]) -> None:
    """One of TEXT characters is accepted, one of a megabyte is refused with field and rule, and not repeated."""

    def body(text: str) -> dict[str, Any]:
        changes = {
            "user_id": {"user_id": text},
            "candidates": {"candidates": ["1", text]},
            "filters": {"filters": {"tags": text}},
            "context": {"context": {"words": [text]}},
        }
        tags = {"tags": [["a"], [text]]}
        user = {path[2]: [text] if path[2] == "user_recent_items" else text} if "user" in path else {}
        return VALID | changes.get(path[0], {"overrides": {"user": user} if user else {"items": tags}})

    assert ACCEPTED.model_validate(body("x" * TEXT))
    problem = broken(body("x" * 2**20))
    assert [one.field for one in problem.errors] == [field]
    assert f"at most {TEXT} characters" in problem.detail


@pytest.mark.parametrize("column", ["context.words", "overrides.user.user_recent_items", "filters.tags"])
def test_a_list_has_a_longest_length(column: str) -> None:
    """Of context, history and filter: LIST_VALUES values are accepted, one more is refused."""

    def body(count: int) -> dict[str, Any]:
        value: Any = [str(index) for index in range(count)]
        for name in reversed(column.split(".")):
            value = {name: value}
        return VALID | value

    assert ACCEPTED.model_validate(body(LIST_VALUES))
    problem = broken(body(LIST_VALUES + 1))
    assert [one.field for one in problem.errors] == [column]
    assert f"at most {LIST_VALUES} items" in problem.detail


def test_all_texts_about_the_user_are_bounded_together() -> None:
    """The impression log repeats them for each candidate."""
    few, many = (["x" * TEXT] * (TEXT_OF_USER // TEXT + more) for more in (0, 1))
    assert ACCEPTED.model_validate(VALID | {"overrides": {"user": {"user_recent_items": few}}})
    for body in ({"overrides": {"user": {"user_recent_items": many}}}, {"context": {"words": many}}):
        assert f"at most {TEXT_OF_USER} characters together" in broken(VALID | body).detail


@given(st.lists(st.lists(st.integers(), max_size=3) | st.lists(st.text(max_size=9), max_size=3), max_size=4))
def test_what_the_model_knows_may_be_requested(known: list[list[Any]]) -> None:
    """The limit is TEXT, or the length of the longest known text."""
    longest = "x" * (TEXT + 7)
    assert text_limit(known) == TEXT
    assert text_limit([*known, ["a", longest]]) == len(longest)
    accepted = request_type(SCHEMA, SETTINGS.serve, VIEWS, text=text_limit([[longest]]))
    assert accepted.model_validate(VALID | {"user_id": longest}).user_id == longest


def test_a_problem_with_any_number_of_broken_rules_is_short_and_quick() -> None:
    """Beyond MAX_ERRORS no rule is described: pydantic takes 1 kB for each."""
    problem = broken(VALID | {str(index): 0 for index in range(MAX_ERRORS + 10)})
    assert problem.detail == f"body: breaks {MAX_ERRORS + 10:,} rules: too many to list them"


def test_a_rule_repeats_a_limited_part_of_the_request() -> None:
    """An item that is listed twice is in the message, cut."""
    twice = ["x" * TEXT] * 2
    accepted = request_type(SCHEMA, SETTINGS.serve, VIEWS, text=2**20)
    assert "more than once" in broken(VALID | {"candidates": ["1", "1"]}, accepted).detail
    assert len(broken(VALID | {"candidates": ["x" * 2**20] * 2}, accepted).detail) < 2 * MAX_TEXT
    assert broken(VALID | {"candidates": twice}, accepted)
