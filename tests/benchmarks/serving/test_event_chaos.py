"""The chaos benchmark of events: what is lost or there twice is seen; a short form of it, with real processes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.event_faults import CONSUMER, FAULTS, SERVER, SERVICE, WORKER, Chaos, select_faults
from benchmarks.serving.event_sender import Sent, compare
from benchmarks.serving.stores import REDIS, SQLITE
from common.errors import ParameterError
from features.session.events import Events
from tests.support.redis_process import needs_redis

USERS = [7, 8]
NAN = float("nan")


def sent() -> Sent:
    """Three events of a user and one of another; the second has a label."""
    known = {1: (100, 5, 0, NAN), 2: (200, 6, 1, 1.0), 3: (300, 5, 0, NAN)}
    result = Sent()
    result.known |= {7: known, 8: {4: (400, 5, 0, 0.0)}}
    return result


def stored(change: Callable[[Events], Events] = lambda events: events) -> Events:
    """The same events as the store has them, in another order, with a change."""
    return change(
        Events(
            users=np.array([1, 0, 0, 0]),
            timestamps=np.array([400, 100, 300, 200]),
            event_ids=np.array([4, 1, 3, 2]),
            items=np.array([5, 5, 5, 6]),
            scenarios=np.array([0, 0, 0, 1]),
            outcomes=np.array([[0, NAN], [NAN, NAN], [NAN, NAN], [1, NAN]], np.float32),
        )
    )


def relabelled(events: Events) -> Events:
    """The label of the last event is not there."""
    events.outcomes[3, 0] = NAN
    return events


def renamed(events: Events) -> Events:
    """The last event has an id that nobody sent."""
    events.event_ids[3] = 99
    return events


@pytest.mark.unit
@pytest.mark.parametrize(
    ("change", "lost", "twice"),
    [
        (lambda events: events, 0, 0),
        (lambda events: events.take(np.arange(3)), 1, 0),
        (lambda events: events.take(np.array([0, 1, 2, 3, 3])), 0, 1),
        (relabelled, 1, 0),
        (renamed, 1, 1),
    ],
    ids=["equal", "one is missing", "one is there twice", "a label is missing", "another id"],
)
def test_the_sessions_are_compared_with_what_was_sent(
    change: Callable[[Events], Events], lost: int, twice: int
) -> None:
    """Event by event, with what is said of it."""
    assert compare(sent(), USERS, stored(change), kept=50, task=0) == (lost, twice)


@pytest.mark.unit
def test_of_what_a_session_keeps_the_newest_must_be_there() -> None:
    """An older event need not be."""
    newest = stored(lambda events: events.take(np.array([0, 2, 3])))
    assert compare(sent(), USERS, newest, kept=2, task=0) == (0, 0)
    assert compare(sent(), USERS, newest, kept=3, task=0) == (1, 0)


@pytest.mark.unit
def test_faults_are_chosen_by_words() -> None:
    """Of the store or of what is killed."""
    assert select_faults("") == list(FAULTS)
    assert select_faults("Redis") == [(REDIS, SERVER)]
    assert select_faults("consumer, workers") == [(SQLITE, CONSUMER), (SQLITE, WORKER), (REDIS, CONSUMER)]
    with pytest.raises(ParameterError, match="sqlite, consumer; "):
        select_faults("disk")


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize(
    ("store", "killed"),
    [
        (SQLITE, CONSUMER),
        (SQLITE, SERVICE),
        pytest.param(REDIS, CONSUMER, marks=needs_redis),
        pytest.param(REDIS, SERVER, marks=needs_redis),
    ],
)
def test_kill_9_loses_no_event_and_counts_none_twice(
    session_project: Path, tmp_path: Path, store: str, killed: str
) -> None:
    """Twice, under a load; a service that is up answers every ranking, whatever else is down."""
    result = Chaos(session_project, tmp_path, store, killed).cause((100, 20), 2, 25)
    assert (result.lost, result.twice) == (0, 0)
    assert result.queued == result.reports > 1000
    assert result.errors == 0 or killed == SERVICE
    assert (result.degraded > 0) == (killed == SERVER)
    assert result.gap < (60 if killed == SERVICE else 2)
