"""Session features of a log: equal to a plain loop over the past, in batches of any size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.params import SessionFeatures
from features.session import offline
from tests.support import session_log, world
from tests.support.examples import examples

pytestmark = pytest.mark.integration


@hypothesis_settings(max_examples=examples(60), deadline=None)
@given(events=session_log.logs(), chosen=session_log.settings(), batch=st.sampled_from([3, 20_000]))
def test_every_impression_sees_the_newest_events_of_its_past(
    tmp_path_factory: pytest.TempPathFactory, events: pd.DataFrame, chosen: SessionFeatures, batch: int
) -> None:
    """Each feature is that of a loop over the user's events before the timestamp minus the lag: none of its own."""
    folder, view = tmp_path_factory.mktemp("log"), session_log.view_of(chosen)
    world.write_validated(folder, {**world.tables(rows=1), "events": events})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offline, "BATCH_ROWS", batch)
        offline.write_features(
            session_log.SCHEMA,
            view,
            events=folder / "events",
            out=folder / "out.parquet",
            scratch=folder / "spill",
            values=session_log.VALUES,
        )
    rows = {row["event_id"]: row for row in pq.read_table(folder / "out.parquet").to_pylist()}
    assert len(rows) == len(events)
    for event in events.itertuples():
        expected = session_log.slow_features(events, event.user_id, event.timestamp, view, event.item_id)
        assert rows[event.event_id] == {"event_id": event.event_id} | expected


def test_the_states_of_many_users_need_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8,000 users with 20 events each, in 256 MB: a sorted list for each column and user needs more than twice that."""
    users, each = 8000, 20
    events = world.tables(rows=users * each, users=users)["events"].assign(user_id=np.repeat(np.arange(users), each))
    world.write_validated(tmp_path, {**world.tables(rows=1), "events": events})
    monkeypatch.setenv("HINET_MEMORY", "256MB")
    view, out = session_log.view_of(SessionFeatures(events=each)), tmp_path / "out.parquet"
    arguments = {"events": tmp_path / "events", "out": out, "scratch": tmp_path / "spill"}
    assert offline.write_states(session_log.SCHEMA, view, **arguments) == users
    newest = pq.read_table(out).sort_by("user_id")["session_event_ids"].to_pylist()
    in_order = events.sort_values(["user_id", "timestamp", "event_id"])["event_id"].to_numpy().reshape(users, each)
    np.testing.assert_array_equal(newest, in_order)
