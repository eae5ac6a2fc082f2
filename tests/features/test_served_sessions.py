"""The quality gate of session features as served: equal to those recomputed from the events, as of the request."""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common import params
from common.errors import ValidationError
from features.engine.session_view import session_views
from features.inspect_served import BOTH, REPORT, inspect_served
from features.quality.served_features import RECOMPUTED
from features.schema import View, read_views
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.consumer import Consumer
from serving.events.event_queue import EventQueue
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from tests.support import tiny_project, world
from tests.support.feedback import SCHEMA, collector, put, write_profiles
from tests.support.impressions import open_log

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("without_data_docs")]

NOON = datetime(2026, 1, 12, 12, tzinfo=UTC)  # after the last event of the tiny world
ITEMS = [4, 1, 7]
BOTH_LABELS = ("click", "order")


class Platform:
    """A service with session features: its rankings are logged, and what it shows comes back as events."""

    def __init__(self, project: Path, root: Path) -> None:
        self.root, self.now, self.ids = root, NOON, iter(range(10_000, 20_000))
        sources = ModelSources(project / tiny_project.MODEL, project / tiny_project.ONLINE, root / "r.db", events=root)
        self.ranker = open_ranker(sources, tiny_project.with_read_timeout(project))
        self.ranker.clock = lambda: self.now.timestamp()
        self.log, self.queue = open_log(root / "impressions"), EventQueue(root)
        self.ranker.observers = [self.log]
        views = read_views(project / "data/features/views.json")
        self.accepted = request_type(SCHEMA, params.load(project / "params.yaml").serve, views)
        (view,) = session_views(views)
        store = open_live_store(SCHEMA, view, folder=root, registry=root / "l.db")
        self.consumer = Consumer(self.queue, LiveSessions(store, SCHEMA, view), SCHEMA)

    def show(self, user: int, random: np.random.Generator) -> list[dict[str, Any]]:
        """Rank for a user; the events of all three items, some seconds later."""
        self.now += timedelta(seconds=float(random.uniform(1, 90)))
        self.ranker.rank(self.accepted(user_id=user, scenario="search", candidates=ITEMS, context={"hour": 12}))
        timestamp = self.now + timedelta(seconds=0.5)
        clicks = random.integers(0, 2, len(ITEMS)).tolist()
        return [
            {"event_id": next(self.ids), "user_id": user, "item_id": item, "scenario": "search", "order": 0}
            | {"timestamp": timestamp, "click": click}
            for item, click in zip(ITEMS, clicks, strict=True)
        ]

    def report(
        self, events: list[dict[str, Any]], labels: tuple[str, ...] = BOTH_LABELS, *, apply: bool = True
    ) -> None:
        """The service receives events with these labels; unless the consumer is down, it applies them."""
        put(self.queue, events, labels)
        if apply:
            self.consumer.step()

    def collect(self) -> Path:
        """The features as served, by event."""
        self.log.close()
        self.ranker.loaded.users.close()
        write_profiles(self.root / "ingested", world.tables(rows=600))
        collecting = collector(self.root, self.queue)
        collecting.receive()
        collecting.write(NOON + timedelta(days=9))
        return self.root / "feedback/served"


@pytest.fixture
def platform(session_project: Path, tmp_path: Path) -> Iterator[Platform]:
    """A service; the current folder is that of its project."""
    with contextlib.chdir(session_project):
        yield Platform(session_project, tmp_path)


def inspect(platform: Platform, project: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The report of the gate, and the file with both values; raises ValidationError where it is closed."""
    data, day, out = project / "data", date(2026, 1, 12), platform.root / "out"
    arguments = {"schema": data / "schema.json", "features": data / "features", "first_day": day, "last_day": day}
    inspect_served(served=platform.collect(), out=out, **arguments)
    return json.loads((out / REPORT).read_text())["tables"], pd.read_parquet(out / BOTH)


def session_of(project: Path) -> View:
    """The session view of the project."""
    (view,) = session_views(read_views(project / "data/features/views.json"))
    return view


def test_sessions_as_served_are_those_recomputed(platform: Platform, session_project: Path) -> None:
    """Every column of the view, to the digit: of events of the log, and of those that came minutes and seconds ago."""
    random = np.random.default_rng(0)
    for number in range(24):
        platform.report(platform.show(number % 4, random))
    tables, both = inspect(platform, session_project)
    assert tables["session"]["rows"] == len(both) == 72
    for column in session_of(session_project).columns:
        assert both[column.name].astype(str).tolist() == both[RECOMPUTED + column.name].astype(str).tolist()
        assert both[column.name].notna().any(), column.name


def test_labels_that_nobody_reported_leave_the_gate_open(platform: Platform, session_project: Path) -> None:
    """Of the rows that see such an event, what depends on labels is not compared; all the rest is."""
    random = np.random.default_rng(1)
    for number in range(12):
        platform.report(platform.show(number % 2, random), ("click",) if number == 6 else BOTH_LABELS)
    tables, _ = inspect(platform, session_project)
    assert tables["session"]["rows"] == 36


def test_a_label_that_came_later_than_the_model_was_taught_closes_the_gate(
    platform: Platform, session_project: Path
) -> None:
    """The service had shown without an outcome what the training set has with one."""
    random, late = np.random.default_rng(2), []
    for number in range(12):
        events = platform.show(number % 2, random)
        platform.report(events, ())
        late.append(events)
    for events in late:
        platform.report(events)
    with pytest.raises(ValidationError, match="session_recent_engaged"):
        inspect(platform, session_project)


def test_a_consumer_that_was_down_closes_the_gate(platform: Platform, session_project: Path) -> None:
    """Events that were acknowledged and not applied are missing in what was served; what is recomputed has them."""
    random = np.random.default_rng(3)
    for number in range(12):
        platform.report(platform.show(number % 2, random), apply=number < 6)
    with pytest.raises(ValidationError, match="session_seconds_since_shown"):
        inspect(platform, session_project)
