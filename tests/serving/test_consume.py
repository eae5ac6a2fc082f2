"""The consumer as a process: kill -9 at any time loses nothing and counts nothing twice; there is one at a time."""

import re
import subprocess
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from common.exit_status import LOCKED
from features.engine.session_view import session_views
from features.schema import read_views
from features.session.events import merge
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.consumer import parse
from serving.events.event_queue import EventQueue
from serving.events.event_request import event_type
from tests.support import tiny_project, world
from tests.support.consumer_process import COMMAND, consumer
from tests.support.serving import sample
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

START, SCHEMA = datetime(2026, 1, 12, tzinfo=UTC), world.schema()


@pytest.fixture
def folder(session_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the events of a project with session features."""
    monkeypatch.setenv("HINET_MODEL", str(session_project / tiny_project.MODEL))
    monkeypatch.setenv("HINET_EVENTS", str(tmp_path / "events"))
    return tmp_path / "events"


def put(queue: EventQueue, first: int, count: int, random: np.random.Generator) -> None:
    """A request with `count` events of seven users, from the id `first` on; half of them with labels."""
    accepted, lines = event_type(SCHEMA), []
    for event_id in range(first, first + count):
        event = accepted(
            event_id=event_id,
            user_id=event_id % 7,
            item_id=int(random.integers(0, 9)),
            scenario="feed",
            timestamp=START + timedelta(seconds=event_id),
            labels={"click": int(random.integers(0, 2))} if random.random() < 0.5 else {},
        )
        lines.append((event_id, event.line()))
    assert queue.put(lines) == count
    assert queue.put(lines) == 0  # a caller that tries again


def test_kill_9_loses_no_event_and_doubles_none(session_project: Path, folder: Path, tmp_path: Path) -> None:
    """Killed while events come: in the end the sessions are those of every event once, and nothing waits."""
    (view,) = session_views(read_views(session_project / "data/features/views.json"))
    live = LiveSessions(open_live_store(SCHEMA, view, folder=folder, registry=tmp_path / "l.db"), SCHEMA, view)
    queue, random, sent = EventQueue(folder), np.random.default_rng(0), 0
    for killed in (True, False):
        for _ in range(8):
            put(queue, sent, 40, random)
            sent += 40
        with consumer() as (process, metrics):
            if killed:
                wait_until(lambda: queue.behind(live.applied(queue.identity)) < 320)
                process.kill()
                continue
            refused = subprocess.run(COMMAND, stderr=subprocess.PIPE, text=True)
            assert refused.returncode == LOCKED
            assert re.search("events has a consumer already", refused.stderr)
            wait_until(lambda: queue.behind(live.applied(queue.identity)) == 0)
            page = urllib.request.urlopen(metrics).read()
            assert sample(page, "hinet_event_queue_depth") == 0
            assert sample(page, "hinet_event_lag_seconds_count") == sample(page, "hinet_events_applied_total") > 0
            process.terminate()
            assert process.wait(30) == 0
    entries = queue.after(0, 10_000)
    assert len(entries) == sent
    users, events = parse(entries, SCHEMA)
    wanted, actual = merge(events, live.kept), live.read(users)
    for name, values in vars(actual).items():
        np.testing.assert_array_equal(values, getattr(wanted, name), err_msg=name)


def test_what_was_applied_leaves_the_queue(tmp_path: Path) -> None:
    """Entries that wait stay, however old they are."""
    queue = EventQueue(tmp_path)
    put(queue, 0, 10, np.random.default_rng(0))
    number = queue.after(0, 4)[-1].number
    assert queue.forget(number, datetime.now(UTC).timestamp() + 1) == 4
    assert [entry.number for entry in queue.after(0, 100)] == list(range(number + 1, number + 7))
    assert queue.behind(number) == 6


def test_without_session_features_there_is_nothing_to_apply(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer says so and ends: `make serve` starts it whatever the model reads."""
    monkeypatch.setenv("HINET_MODEL", str(project / tiny_project.MODEL))
    done = subprocess.run(COMMAND, stdout=subprocess.PIPE, text=True, check=True)
    assert "reads no session features" in done.stdout


def test_with_stay_it_waits_for_the_signal(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whatever ends is started again: its metrics are there for the probes, and SIGTERM ends it with 0."""
    monkeypatch.setenv("HINET_MODEL", str(project / tiny_project.MODEL))
    with consumer("--stay") as (process, metrics):
        assert sample(urllib.request.urlopen(metrics).read(), "hinet_events_applied_total") == 0
        process.terminate()
        assert process.wait(30) == 0
