"""Offline and online features of a session are the same: through queue, consumer, Feast's push and client."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common import params
from common.params import SessionFeatures
from common.paths import PARAMS, ROOT
from features.schema import View
from features.session.offline import write_features, write_states
from features.store.definitions import open_store
from features.store.ibis_backend import set_ibis_backend
from features.store.incremental import BEGINNING
from features.store.live_sessions import LiveSessions, open_live_store
from serving.events.consumer import Consumer
from serving.events.event_request import event_type
from serving.events.queues import open_queue
from serving.ranking.feature_client import UserFeatures
from serving.ranking.sessions import Sessions
from tests.support import session_log, world
from tests.support.examples import examples
from tests.support.redis_process import needs_redis

pytestmark = pytest.mark.integration

SCHEMA, USERS = session_log.SCHEMA, (0, 1, 2, 77)
STORE = params.load(ROOT / PARAMS).serve.store.model_copy(update={"timeout_ms": 10_000.0})
ACCEPTED = event_type(SCHEMA)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("redis", marks=needs_redis)])
def redis(request: pytest.FixtureRequest) -> Any:
    """The Redis of the tests, or None: then the stores are files of SQLite."""
    return None if request.param == "sqlite" else request.getfixturevalue("redis_server")


@hypothesis_settings(max_examples=examples(32), deadline=None)
@given(events=session_log.logs(), chosen=session_log.settings(), data=st.data())
def test_online_features_are_the_offline_features_of_the_same_timestamp(
    tmp_path_factory: pytest.TempPathFactory,
    redis: Any,
    events: pd.DataFrame,
    chosen: SessionFeatures,
    data: st.DataObject,
) -> None:
    """Whatever the order of arrival, with duplicates, late labels, restarts, and part of the log in the other store."""
    folder, view = tmp_path_factory.mktemp("parity"), session_log.view_of(chosen)
    at = events["timestamp"].max() + data.draw(st.integers(1, 20_000)) * pd.Timedelta(milliseconds=1)
    within = events[events["timestamp"] >= at - chosen.lag_seconds * session_log.SECOND]
    assume(within.groupby("user_id").size().max() <= chosen.events if len(within) else True)
    if redis is not None:
        redis.client.flushall()
    logged = data.draw(st.integers(0, len(events)))
    materialize(folder, view, events.iloc[:logged], redis)
    consume(folder, view, arrivals(events.iloc[logged // 2 :], data), data, redis)
    item = int(events["item_id"].iloc[0])  # the candidate
    assert online(folder, view, at, redis, item) == offline(folder, view, events, at)


def materialize(folder: Path, view: View, events: pd.DataFrame, redis: Any) -> None:
    """The states as of the end of a log, in the store that the log fills."""
    if len(events):
        log = world.write_validated(folder / "log_before", {**world.tables(rows=1), "events": events})
        out = folder / f"{view.name}.parquet"
        write_states(SCHEMA, view, events=log / "events", out=out, scratch=folder / "spill")
        set_ibis_backend()
        main_store(folder, view, redis).materialize(BEGINNING, world.START.tz_localize("UTC") + pd.Timedelta(days=1))


def main_store(folder: Path, view: View, redis: Any) -> Any:
    """The store that the log fills."""
    address = None if redis is None else redis.address
    return open_store(SCHEMA, (view,), features=folder, online=folder / "o.db", registry=folder / "r.db", redis=address)


def live_store(folder: Path, view: View, redis: Any) -> Any:
    """The store of the events since the log."""
    address = None if redis is None else redis.address
    return open_live_store(SCHEMA, view, folder=folder / "events", registry=folder / "l.db", redis=address)


def arrivals(events: pd.DataFrame, data: st.DataObject) -> list[dict[str, Any]]:
    """Reports of the events: each once without its labels or twice, some again, in any order."""
    reports = []
    for row in events.to_dict("records"):
        known = {task: int(row[task]) for task in ("click", "order") if not pd.isna(row[task])}
        names = {"user_id": row["user_id"], "item_id": row["item_id"], "scenario": row["scenario"]}
        event = {"event_id": row["event_id"], **names, "timestamp": row["timestamp"].isoformat()}
        reports += [event, event | {"labels": known}]
    again = data.draw(st.lists(st.sampled_from(reports), max_size=5)) if reports else []
    return list(data.draw(st.permutations(reports + again)))


def consume(folder: Path, view: View, reports: list[dict[str, Any]], data: st.DataObject, redis: Any) -> None:
    """Put all reports into the queue, in requests of any size, and apply them by consumers that are started again."""
    live = LiveSessions(live_store(folder, view, redis), SCHEMA, view)
    with closing(open_queue(folder / "events", None if redis is None else redis.address)) as queue:
        while reports:
            size = data.draw(st.integers(1, len(reports)))
            batch = [ACCEPTED.model_validate_json(json.dumps(report)) for report in reports[:size]]
            assert 0 <= queue.put([(event.event_id, event.line()) for event in batch]) <= size
            reports = reports[size:]
            Consumer(queue, live, SCHEMA).step()
        consumer = Consumer(queue, live, SCHEMA)
        assert (consumer.step(), consumer.depth) == ([], 0)


def online(folder: Path, view: View, at: pd.Timestamp, redis: Any, item: int) -> list[dict[str, Any]]:
    """The features of USERS and a candidate as a service computes them at a time."""
    names = frozenset(column.name for column in view.columns)
    main, live = main_store(folder, view, redis), live_store(folder, view, redis)
    users = UserFeatures(main, SCHEMA, (view,), names, STORE, live=live)
    sessions = Sessions(SCHEMA, (view,), session_log.ITEMS)
    rows = [users.row({"user_id": user, "scenario": "feed"}) for user in USERS]
    users.close()
    assert {fault for _, fault in rows} == {None}
    now, candidates = at.timestamp(), [3, item]
    counts = [sessions.compared(row, now, candidates) for row, _ in rows]
    pairs = [{name: int(of_each[1]) for name, of_each in one.items()} for one in counts]
    computed = [sessions.added_to(row, now) for row, _ in rows]
    return [dict(row.values) | pair for row, pair in zip(computed, pairs, strict=True)]


def offline(folder: Path, view: View, events: pd.DataFrame, at: pd.Timestamp) -> list[dict[str, Any]]:
    """The features that an impression of each of USERS would have in the training set."""
    probes = pd.concat([events.iloc[:1]] * len(USERS)).assign(
        user_id=USERS, event_id=np.arange(len(USERS)) + 10_000, timestamp=at
    )
    rows = pd.concat([events, probes]).astype({"timestamp": "datetime64[us]"})
    world.write_validated(folder / "log", {**world.tables(rows=1), "events": rows})
    out = folder / "offline.parquet"
    events, values = folder / "log" / "events", session_log.VALUES
    write_features(SCHEMA, view, events=events, out=out, scratch=folder / "spill", values=values)
    computed = {row.pop("event_id"): row for row in pq.read_table(out).to_pylist()}
    return [computed[probe] for probe in probes["event_id"]]
