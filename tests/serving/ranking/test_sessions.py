"""Session features in the service: those of training as of the same timestamp, and as of the time of the request."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT
from features.engine.session_view import session_views, user_columns
from features.store.definitions import open_store
from features.store.live_sessions import LiveSessions, open_live_store
from models.model_folder import read_model
from release.parity import compare_probabilities, predict_offline, sample_events, serve
from serving.events.consumer import Consumer
from serving.events.event_queue import EventQueue
from serving.events.event_request import event_type
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type
from tests.support import tiny_project, world

pytestmark = pytest.mark.integration

END = datetime(2026, 1, 11, 1, tzinfo=UTC)  # of the log and of its features


@pytest.fixture(scope="module")
def ranker(session_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranker:
    """A ranker of the project, as of the end of its log."""
    ranker = tiny_project.ranker(session_project, tmp_path_factory.mktemp("registry") / "r.db")
    ranker.clock = END.timestamp
    return ranker


def request(ranker: Ranker, **changes: Any) -> Any:
    """A valid request with changes."""
    accepted = request_type(world.schema(), tiny_project.with_read_timeout(ROOT), ranker.loaded.model.views)
    return accepted(**{"user_id": 1, "scenario": "search", "candidates": list(range(9))} | changes)


def test_probabilities_are_those_of_the_training_path(session_project: Path, ranker: Ranker, tmp_path: Path) -> None:
    """As of the end of the log, for a sample of the test rows: join, encoder and network against the service."""
    data, model = session_project / "data", read_model(session_project / tiny_project.MODEL)
    store = open_store(
        model.schema, model.views, features=data / "features", online=tmp_path / "o.db", registry=tmp_path / "r.db"
    )
    events = sample_events(model.schema, data / "training/test.parquet", 60, END)
    offline = predict_offline(store, model, events, tmp_path / "rows.parquet")
    accepted = request_type(model.schema, tiny_project.with_read_timeout(session_project), model.views)
    rule = compare_probabilities(offline, serve(ranker, events, accepted), model)
    assert rule.passed, rule.sentence


def test_windows_close_without_an_event(ranker: Ranker) -> None:
    """The same events, a day later, are in no window; what was shown last stays, and its age grows."""
    row, _ = ranker.loaded.users.row({"user_id": 1, "scenario": "search"})
    now, later = (
        ranker.loaded.sessions.added_to(row, (END + timedelta(days=days)).timestamp()).values for days in (0, 1)
    )
    (view,) = session_views(ranker.loaded.model.views)
    assert {column.name for column in user_columns(view)} <= set(now)
    assert now["session_events_86400s"] > later["session_events_86400s"] == 0
    assert now["session_recent_shown"] == later["session_recent_shown"] != []
    assert later["session_seconds_since_shown"] - now["session_seconds_since_shown"] == pytest.approx(86_400, abs=1)


def test_a_user_without_events_has_a_session_of_none(ranker: Ranker) -> None:
    """Counts of 0 as in training, not missing values."""
    row, _ = ranker.loaded.users.row({"user_id": 999, "scenario": "search"})
    values = ranker.loaded.sessions.added_to(row, END.timestamp()).values
    assert (values["session_events_300s"], values["session_recent_shown"]) == (0, None)


def test_candidates_are_compared_with_the_events(ranker: Ranker) -> None:
    """Of each candidate, how often it was among the user's five newest events, whatever else is a candidate."""
    row, _ = ranker.loaded.users.row({"user_id": 1, "scenario": "search"})
    (events,) = row.events["session"]
    at, shown = (events.timestamps[-1] + 1) / 1e6, events.items[-5:].tolist()
    seconds = (events.timestamps[-1] - events.timestamps) / 1e6
    counts = ranker.loaded.sessions.compared(row, at, [*range(9), 4_000])
    within = [item for item, age in zip(shown, seconds[-5:], strict=True) if age < 86_400]
    assert counts["session_same_item_id_shown_86400s"].tolist() == [*map(within.count, range(9)), 0]
    assert within


def test_an_explanation_names_the_session(ranker: Ranker) -> None:
    """The session is a group of features, as each view is."""
    explanation = ranker.rank(request(ranker, explain=True)).explanation
    assert explanation is not None
    assert abs(explanation.contributions["session"]["click"]).max() > 0


def test_an_event_changes_the_next_ranking(session_project: Path, tmp_path: Path) -> None:
    """From the queue through the consumer: other probabilities and another order, of this user and of no other."""
    sources = ModelSources(
        session_project / tiny_project.MODEL,
        session_project / tiny_project.ONLINE,
        tmp_path / "r.db",
        events=tmp_path / "events",
    )
    ranker = open_ranker(sources, tiny_project.with_read_timeout(session_project))
    ranker.clock = (END + timedelta(minutes=1)).timestamp
    (view,) = session_views(ranker.loaded.model.views)
    store = open_live_store(world.schema(), view, folder=tmp_path / "events", registry=tmp_path / "l.db")
    queue = EventQueue(tmp_path / "events")
    consumer = Consumer(queue, LiveSessions(store, world.schema(), view), world.schema())
    before, other = ranker.rank(request(ranker)), ranker.rank(request(ranker, user_id=2))
    put(queue, user_id=1, labels={"click": 1})
    assert ranker.rank(request(ranker)).items == before.items  # it is in the queue only
    assert len(consumer.step()) == 5
    after = ranker.rank(request(ranker))
    assert (after.degraded, after.items != before.items) == (None, True)
    assert ranker.rank(request(ranker, user_id=2)).scores.tolist() == other.scores.tolist()


def put(queue: EventQueue, **changes: Any) -> None:
    """Five events of a user, one a second."""
    accepted = event_type(world.schema())
    for index in range(5):
        event = accepted(
            **{"event_id": 10_000 + index, "item_id": index, "scenario": "feed"} | changes,
            timestamp=END + timedelta(seconds=index),
        )
        queue.put([(event.event_id, event.line())])
