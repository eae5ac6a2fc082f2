"""The loop of the consumer goes on after faults of what it writes to."""

import logging
import sqlite3
import threading
from pathlib import Path

import pytest
import redis
from redis.exceptions import RedisClusterException

from serving.events import running
from serving.events.running import Applier
from serving.telemetry.event_metrics import EventMetrics
from tests.support import tiny_project

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "fault", [redis.ConnectionError("refused"), RedisClusterException("no node"), sqlite3.OperationalError("locked")]
)
def test_a_store_out_of_reach_is_waited_for(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """A cluster that cannot be reached at the start is no RedisError; after any of them the consumer tries again."""
    monkeypatch.setattr(running, "FAULT_SECONDS", 0.01)
    applier = Applier(project / tiny_project.MODEL, tmp_path / "events", scratch=tmp_path, redis=None)
    faults = [fault, fault]

    def wait(stop: threading.Event) -> None:
        if faults:
            raise faults.pop()
        stop.set()

    monkeypatch.setattr(applier.lock, "wait", wait)
    with caplog.at_level(logging.WARNING):
        applier.run(threading.Event(), EventMetrics())
    assert [record.message.count(f"events wait: {fault}") for record in caplog.records] == [1, 1]
