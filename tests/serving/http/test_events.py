"""POST /events: what is taken, counted and refused, and that it is on the disk when it is answered."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import RedisError
from redis.exceptions import RedisClusterException

from serving.events.event_queue import FILE, EventQueue
from serving.http.event_intake import EventIntake, open_intake
from serving.http.middleware import ApiMiddleware
from serving.http.openapi import describe
from serving.http.routes import RankingApi
from serving.ranking.model_sources import ModelSources
from tests.support import world
from tests.support.serving import ACCEPTED, SERVE, VALID, StubRanker, call, problem_of

pytestmark = pytest.mark.integration

EVENT: dict[str, Any] = {
    "event_id": 1,
    "user_id": 3,
    "item_id": 4,
    "scenario": "feed",
    "timestamp": "2026-01-18T12:00:00Z",
    "labels": {"click": 1},
}


@pytest.fixture
def app(tmp_path: Path) -> ApiMiddleware:
    """The HTTP layer of a service that takes events into a folder, ten at a time."""
    api = RankingApi()
    intake = EventIntake(world.schema(), EventQueue(tmp_path), limit=10, text=100)
    api.open(StubRanker(), ACCEPTED, SERVE, model_info=dict, events=intake)
    return ApiMiddleware(api=api)


def post(app: ApiMiddleware, body: Any) -> Any:
    """The response to POST /events with a value, or with bytes."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return call(app, lambda http: http.post("/events", content=content, headers={"Content-Type": "application/json"}))


def lines(folder: Path) -> list[Any]:
    """What a queue holds, read from its file by another connection."""
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return [orjson.loads(body) for (body,) in connection.execute("select body from events order by number")]


def test_an_event_is_on_the_disk_when_it_is_answered(app: ApiMiddleware, tmp_path: Path) -> None:
    """Timestamps are UTC, in microseconds; without a zone they are in UTC as well."""
    for event_id, timestamp in ((1, "2026-01-18T12:00:00Z"), (2, "2026-01-18T13:00:00+01:00"), (3, "2026-01-18T12:00")):
        response = post(app, EVENT | {"event_id": event_id, "timestamp": timestamp})
        assert (response.status_code, response.json()) == (200, {"accepted": 1, "duplicates": 0})
    assert lines(tmp_path) == [[n, 1_768_737_600_000_000, 3, 4, "feed", {"click": 1}] for n in (1, 2, 3)]


def test_the_same_report_again_is_a_duplicate_and_more_labels_are_not(app: ApiMiddleware, tmp_path: Path) -> None:
    """In a later request or in the same one; unknown labels say nothing."""
    shown = {name: value for name, value in EVENT.items() if name != "labels"}
    assert post(app, [shown, shown | {"labels": {"click": None}}]).json() == {"accepted": 1, "duplicates": 1}
    assert post(app, [shown, EVENT, EVENT | {"labels": {"click": 1, "order": 0}}]).json() == {
        "accepted": 2,
        "duplicates": 1,
    }
    assert [known for *_, known in lines(tmp_path)] == [{}, {"click": 1}, {"click": 1, "order": 0}]


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"event_id": "1"}, "event_id", "valid integer"),
        ({"user_id": None}, "user_id", "valid integer"),
        ({"scenario": "nowhere"}, "scenario", "'feed', 'search' or 'channel'"),
        ({"timestamp": "yesterday"}, "timestamp", "valid datetime"),
        ({"timestamp": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "timestamp", "60 s ahead"),
        ({"labels": {"click": 2}}, "labels.click", "0 or 1"),
        ({"labels": {"click": True}}, "labels.click", "not true or false"),
        ({"labels": {"share": 1}}, "labels.share", "Extra inputs"),
        ({"labels": {"click": 0, "order": 1}}, "labels", "order 1 requires click 1"),
        ({"price": 1}, "price", "Extra inputs"),
    ],
)
def test_a_broken_rule_is_named_and_nothing_is_taken(
    app: ApiMiddleware, tmp_path: Path, change: dict[str, Any], field: str, rule: str
) -> None:
    """Field and rule, of one event or of one among several; the valid ones of the same request are not taken."""
    for body, prefix in ((EVENT | change, ""), ([EVENT, EVENT | change], "1.")):
        (broken,) = problem_of(post(app, body), 422)["errors"]
        assert broken["field"] == prefix + field
        assert rule in broken["rule"]
    assert lines(tmp_path) == []


def test_a_request_has_as_many_events_as_the_limit_allows(app: ApiMiddleware, tmp_path: Path) -> None:
    """One more is refused, and so is none, and what is no JSON."""
    many = [EVENT | {"event_id": index} for index in range(11)]
    assert post(app, many[:10]).json()["accepted"] == 10
    assert "at most 10 items" in problem_of(post(app, many), 422)["detail"]
    assert "at least 1 item" in problem_of(post(app, []), 422)["detail"]
    problem_of(post(app, b"{"), 400)
    assert len(lines(tmp_path)) == 10


def test_rankings_go_on_while_events_wait_for_the_disk(app: ApiMiddleware, tmp_path: Path) -> None:
    """While another process holds the file, a ranking is answered; then the event is."""

    async def act(http: Any) -> tuple[Any, Any]:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("begin immediate")
            event = asyncio.create_task(http.post("/events", json=EVENT))
            await asyncio.sleep(0.1)
            ranking = await http.post("/rank", json=VALID)
            assert not event.done()
            other.execute("commit")
        return ranking, await event

    ranking, event = call(app, act)
    assert (ranking.status_code, event.status_code) == (200, 200)


def test_a_queue_that_does_not_answer_leaves_half_of_the_worker_to_rankings(tmp_path: Path) -> None:
    """Of four requests that it may hold two wait for the queue; the third is refused, and a ranking is answered."""
    api, limits = RankingApi(), SERVE.limits.model_copy(update={"concurrent": 4})
    intake = EventIntake(world.schema(), EventQueue(tmp_path), limit=10, text=100)
    settings = SERVE.model_copy(update={"limits": limits})
    api.open(StubRanker(), ACCEPTED, settings, model_info=dict, events=intake)

    async def act(http: Any) -> tuple[list[Any], Any, Any]:
        with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
            other.execute("begin immediate")
            waiting = [
                asyncio.create_task(http.post("/events", json=EVENT | {"event_id": number})) for number in (1, 2)
            ]
            await asyncio.sleep(0.1)
            refused, ranking = await http.post("/events", json=EVENT), await http.post("/rank", json=VALID)
            other.execute("commit")
        return [await one for one in waiting], refused, ranking

    waited, refused, ranking = call(ApiMiddleware(api=api), act)
    assert ([one.status_code for one in waited], ranking.status_code) == ([200, 200], 200)
    problem_of(refused, 429)
    assert refused.headers["retry-after"] == "1"
    intake.close()


@pytest.mark.parametrize(
    "fault",
    [
        sqlite3.OperationalError("database or disk is full"),
        RedisError("no answer"),
        RedisClusterException("no node can be reached"),
    ],
)
def test_a_queue_that_cannot_be_written_requests_another_attempt(
    app: ApiMiddleware, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """503 with Retry-After."""

    def full(*_: Any) -> int:
        raise fault

    monkeypatch.setattr(EventQueue, "put", full)
    response = post(app, EVENT)
    assert "nothing was taken" in problem_of(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"


def test_a_model_without_session_features_takes_no_events(tmp_path: Path) -> None:
    """404 that says why; the API description has no such path, and no file is made."""
    sources = ModelSources(tmp_path / "model", tmp_path / "online.db", tmp_path / "r.db", events=tmp_path)
    assert open_intake(world.schema(), (), sources, limit=1, text=1) is None
    api = RankingApi()
    api.open(StubRanker(), ACCEPTED, SERVE, model_info=dict)
    assert "aggregate.session.events" in problem_of(post(ApiMiddleware(api=api), EVENT), 404)["detail"]
    assert "/events" not in describe(ACCEPTED, SERVE, secured=False)["paths"]
    assert list(tmp_path.iterdir()) == []


def test_the_api_description_has_the_types_of_events(app: ApiMiddleware) -> None:
    """Its examples are taken."""
    operation = orjson.loads(app.api.page)["paths"]["/events"]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert post(app, example["value"]).status_code == 200
