"""Service and consumer as processes, as `make serve` starts them: a click changes the next ranking within a second."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.paths import ROOT
from tests.support import tiny_project
from tests.support.consumer_process import consumer
from tests.support.service_process import bentoml_serve, complete_answer, wait_until_ready
from tests.support.serving import sample

pytestmark = [pytest.mark.process, pytest.mark.slow]

REQUEST = {"user_id": 1, "scenario": "search", "candidates": list(range(9))}


def test_a_click_changes_the_next_ranking(session_project: Path, tmp_path: Path) -> None:
    """Rank, click, rank again: the order changes within a second; a model's session features are in /docs.json."""
    sources: dict[str, Any] = {
        "HINET_MODEL": str(session_project / tiny_project.MODEL),
        "HINET_ONLINE_STORE": str(session_project / tiny_project.ONLINE),
        "HINET_EVENTS": str(tmp_path / "events"),
    }
    with bentoml_serve([], ROOT, tmp_path / "home", **sources) as http, consumer(**sources):
        wait_until_ready(http)
        before = complete_answer(http, REQUEST).json()
        clicks = [click(index) for index in range(5)]
        taken = http.post("/events", json=clicks)
        assert (taken.status_code, taken.json()) == (200, {"accepted": 5, "duplicates": 0})
        started = time.monotonic()
        while (after := http.post("/rank", json=REQUEST).json())["item_ids"] == before["item_ids"]:
            assert time.monotonic() - started < 1
        assert sorted(after["item_ids"]) == sorted(before["item_ids"])
        assert http.post("/events", json=clicks[0]).json() == {"accepted": 0, "duplicates": 1}
        page = http.get("/metrics").text
        assert sample(page, "hinet_events_total", outcome="accepted") == 5
        assert sample(page, "hinet_events_total", outcome="duplicate") == 1
        assert "/events" in http.get("/docs.json").json()["paths"]


def click(index: int) -> dict[str, Any]:
    """A click of the user, a second ago."""
    shown = {"event_id": 10_000 + index, "user_id": 1, "item_id": index, "scenario": "feed"}
    timestamp = datetime.fromtimestamp(time.time() - 1 + index / 1000, UTC)
    return {**shown, "timestamp": timestamp.isoformat(), "labels": {"click": 1}}
