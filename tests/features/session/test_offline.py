"""Session features of a log: equal to a plain loop over the past, in batches of any size."""

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
            session_log.SCHEMA, view, events=folder / "events", out=folder / "out.parquet", scratch=folder / "spill"
        )
    rows = {row["event_id"]: row for row in pq.read_table(folder / "out.parquet").to_pylist()}
    assert len(rows) == len(events)
    for event in events.itertuples():
        expected = session_log.slow_features(events, event.user_id, event.timestamp, view)
        assert rows[event.event_id] == {"event_id": event.event_id} | expected
