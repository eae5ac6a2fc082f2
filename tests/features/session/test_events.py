"""Merging the events of users: any order, any repetition and any grouping give the state of arrival in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.session.events import Events, concatenate, from_lists, merge, to_lists
from tests.support import session_log

pytestmark = pytest.mark.unit

Report = tuple[int, float, float]  # the number of an event, and what is known of its click and its order

REPORTS = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 1.0, np.nan])),
    min_size=1,
    max_size=30,
)


def events_of(reports: list[Report]) -> Events:
    """Reports of twelve events of two users: user, timestamp, item and scenario follow from the number of an event."""
    number = np.array([number for number, *_ in reports], np.int64)
    outcomes = np.array([known for _, *known in reports], np.float32).reshape(-1, 2)
    return Events(number % 2, number // 3, number, number * 10, number % 3, outcomes)


def equal(one: Events, other: Events) -> bool:
    """Whether both hold the same events in the same order."""
    pairs = zip(vars(one).values(), vars(other).values(), strict=True)
    return all(np.array_equal(left, right, equal_nan=left.dtype == np.float32) for left, right in pairs)


@given(reports=REPORTS, kept=st.integers(1, 4), data=st.data())
def test_the_order_of_arrival_leaves_no_trace(reports: list[Report], kept: int, data: st.DataObject) -> None:
    """Shuffled, repeated, and merged in any groups: the state is that of all reports at once."""
    wanted = merge(events_of(reports), kept)
    arrived = data.draw(st.permutations(reports)) + data.draw(st.lists(st.sampled_from(reports), max_size=5))
    state = events_of([])
    while arrived:
        size = data.draw(st.integers(1, len(arrived)))
        state, arrived = merge(concatenate([state, merge(events_of(arrived[:size]), kept)]), kept), arrived[size:]
    assert equal(state, wanted)


@given(reports=REPORTS, kept=st.integers(1, 4))
def test_the_newest_events_of_each_user_stay_with_all_that_is_known(reports: list[Report], kept: int) -> None:
    """By a loop: of each user the last events by (timestamp, id), each with the largest outcome that was reported."""
    state = merge(events_of(reports), kept)
    for user in (0, 1):
        wanted = sorted({number for number, *_ in reports if number % 2 == user})[-kept:]
        mine = state.take(state.users == user)
        assert mine.event_ids.tolist() == wanted
        for number, known in zip(wanted, mine.outcomes, strict=True):
            for task in (0, 1):
                said = [report[1 + task] for report in reports if report[0] == number]
                largest = max((value for value in said if value == value), default=np.nan)
                assert np.array_equal(known[task], np.float32(largest), equal_nan=True)


@given(reports=REPORTS)
def test_a_state_goes_through_the_lists_of_a_store(reports: list[Report]) -> None:
    """What is written as lists is read as the same events."""
    state = merge(events_of(reports), 3)
    lists = to_lists(state, session_log.SCHEMA)
    assert equal(from_lists(lists, np.unique(state.users), session_log.SCHEMA), state)


def test_ids_of_items_may_be_texts() -> None:
    """Texts are merged, written and read as numbers are; what contradicts itself ends in one order."""
    events = Events(
        users=np.zeros(3, np.int64),
        timestamps=np.array([5, 5, 4]),
        event_ids=np.array([1, 1, 2]),
        items=np.array(["b", "a", "c"], object),
        scenarios=np.array([0, 0, 1]),
        outcomes=np.full((3, 2), np.nan, np.float32),
    )
    for state in (merge(events, 9), merge(events.take(np.array([2, 1, 0])), 9)):
        assert state.items.tolist() == ["c", "b"]
    lists = to_lists(state, session_log.SCHEMA)
    assert from_lists(lists, np.zeros(1, np.int64), session_log.SCHEMA).items.tolist() == ["c", "b"]
