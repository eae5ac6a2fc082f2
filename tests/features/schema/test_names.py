"""The names that a schema refuses, each with a sentence that names it; every other name is taken."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import SchemaError
from features.engine.feature_views import check_names
from features.schema import DType, Kind, Role, Schema, Task, free_name
from tests.support import named_world, world
from tests.support.named_world import PLAIN_NAMES, Names, other_names

pytestmark = pytest.mark.unit

SCHEMA = world.schema()


def declare(**columns: str) -> Schema:
    """The tiny schema with other names of some columns."""
    return other_names(**columns).schema()


@given(name=named_world.TEXT)
def test_any_text_of_printable_letters_is_a_name(name: str) -> None:
    """A context column may be called by any text that shows itself in one line and that the pipeline does not keep."""
    assert declare(hour=name).context[0].name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "at least one character"),
        ("__day", "begin with __"),
        ("_row", "kept for the pipeline"),
        ("a\nb", r"U\+000A"),
        ("a\0b", r"U\+0000"),
        ("a\u2028b", r"U\+2028"),
        ("\ud800", r"U\+D800"),
        (101, "a name is text, found int; write '101'"),
        ("City", r"\['City', 'city'\] are declared twice"),
        ("request_id", "a column of the scored-impression log"),
        ("place", "a column of the scored-impression log"),
        ("score_click", "a column of the scored-impression log"),
        ("tags: length", "the length of tags"),
        ("user_impressions_7d", "a statistic"),
        ("Item_click_rate_ALL", "a statistic"),
        ("user_in_scenario_order_rate_30d", "a statistic"),
        ("user_recent_items_newest_day", "a statistic"),
    ],
)
def test_a_name_of_the_pipeline_is_refused_where_it_is_declared(name: str, message: str) -> None:
    """The sentence names the column and what the name is kept for."""
    with pytest.raises(SchemaError, match=message):
        declare(hour=name)


@pytest.mark.parametrize("column", ["user_id", "city", "price"])
def test_the_timestamp_of_features_is_no_key_and_no_profile(column: str) -> None:
    """A key or a profile column called event_timestamp is refused: a row of features has such a column."""
    with pytest.raises(SchemaError, match="the time from which the values"):
        declare(**{column: "event_timestamp"})


def test_the_timestamp_of_impressions_may_be_called_event_timestamp() -> None:
    """As may a feature of the impression: neither is a column of a row of features."""
    assert declare(timestamp="event_timestamp").timestamp == "event_timestamp"
    assert declare(hour="event_timestamp").context[0].name == "event_timestamp"


@pytest.mark.parametrize("key", ["score", "seconds"])
def test_a_key_is_no_column_of_the_log_of_the_shadow_model(key: str) -> None:
    """A user called score would meet the score beside it."""
    with pytest.raises(SchemaError, match="log of the shadow model"):
        declare(user_id=key)
    assert declare(hour=key)


@pytest.mark.parametrize("name", ["", "a\tb", "\udfff"])
def test_a_scenario_is_text_in_one_line(name: str) -> None:
    """It stands in files, pages, labels of metrics."""
    with pytest.raises(SchemaError, match="scenario"):
        Names(PLAIN_NAMES.columns, {"channel": "a", "feed": name, "search": "c"}).schema()


def test_the_day_of_a_sequence_is_no_other_column() -> None:
    """A column called as the newest day of a declared sequence is refused, unless that is its role."""
    length = {"length": 3, "dtype": DType.INT64_LIST, "kind": Kind.SEQUENCE}
    history = dataclasses.replace(SCHEMA.context[0], name="history", minimum=None, maximum=None, **length)
    day = dataclasses.replace(SCHEMA.context[0], name="history_newest_day")
    with pytest.raises(SchemaError, match="the day of the newest value of history"):
        dataclasses.replace(SCHEMA, events=(*SCHEMA.events, history, day))
    measured = dataclasses.replace(day, role=Role.NEWEST_DAY, kind=None)
    assert dataclasses.replace(SCHEMA, events=(*SCHEMA.events, history, measured))


def test_the_ids_have_one_name_in_events_and_in_their_table() -> None:
    """A user called uid in users and user_id in events is refused, not lost in a join."""
    users = (dataclasses.replace(SCHEMA.users[0], name="uid"), *SCHEMA.users[1:])
    with pytest.raises(SchemaError, match="'user_id' in events and 'uid' in users"):
        dataclasses.replace(SCHEMA, users=users)


def test_cells_have_distinct_names() -> None:
    """Scenario a with task b/c, and scenario a/b with task c, would have one result."""
    click, order = SCHEMA.by_role(Role.LABEL)
    labels = (dataclasses.replace(click, name="b/c"), dataclasses.replace(order, name="c"))
    events = (*(column for column in SCHEMA.events if column.role is not Role.LABEL), *labels)
    tasks = (Task(name="b/c"), Task(name="c"))
    with pytest.raises(SchemaError, match=r"\['a/b/c'\] twice"):
        dataclasses.replace(SCHEMA, scenarios=("a", "a/b", "z"), events=events, tasks=tasks)
    assert dataclasses.replace(SCHEMA, events=events, tasks=tasks).cells["feed/b/c"] == ("feed", tasks[0])


def test_statistics_of_two_tasks_have_distinct_names() -> None:
    """The rate of a task in_scenario_x of users and of x of users in a scenario would be one column."""
    with pytest.raises(SchemaError, match="the statistics of its tasks"):
        check_names(declare(click="in_scenario_x", order="x"))


@given(name=named_world.TEXT, declared=st.lists(named_world.TEXT))
def test_a_column_of_ours_has_a_free_name(name: str, declared: list[str]) -> None:
    """Its own name, or one that no schema can declare."""
    free = free_name(name, declared)
    assert free not in declared
    assert free == name or free.startswith("__")
