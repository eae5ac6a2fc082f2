"""The session features of a user at any time, from events in any order: equal to a plain loop over the past."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from common.params import SessionFeatures
from features.session.as_of import features_as_of
from features.session.events import Events
from tests.support import session_log
from tests.support.examples import examples

pytestmark = pytest.mark.unit
USERS = (0, 1, 2, 77)
NAMES = ("click", "order")


def as_events(frame: pd.DataFrame) -> Events:
    """The rows of a log; codes are indices of USERS."""
    return Events(
        users=frame["user_id"].map(USERS.index).to_numpy(np.int64),
        timestamps=frame["timestamp"].to_numpy("datetime64[us]").astype(np.int64),
        event_ids=frame["event_id"].to_numpy(np.int64),
        items=frame["item_id"].to_numpy(np.int64),
        scenarios=frame["scenario"].map(session_log.SCHEMA.scenarios.index).to_numpy(np.int64),
        outcomes=frame[[*NAMES]].astype("float32").to_numpy(np.float32, na_value=np.nan),
    )


@hypothesis_settings(max_examples=examples(60), deadline=None)
@given(events=session_log.logs(), chosen=session_log.settings(), data=st.data())
def test_each_row_has_the_features_of_a_loop_over_the_past(
    events: pd.DataFrame, chosen: SessionFeatures, data: st.DataObject
) -> None:
    """Whatever the order of the events; a row is complete where every label of what it sees is known."""
    view = session_log.view_of(chosen)
    one = st.tuples(st.sampled_from(USERS), st.integers(0, 130), st.integers(0, 3))
    rows = data.draw(st.lists(one, min_size=1, max_size=8))
    start = events["timestamp"].min().floor("min")
    times = [start + pd.Timedelta(milliseconds=500 * ticks) for _, ticks, _ in rows]
    columns, complete = features_as_of(
        session_log.SCHEMA,
        view,
        as_events(events.sample(frac=1, random_state=0)),
        np.array([USERS.index(user) for user, _, _ in rows]),
        np.array([time.value // 1000 for time in times]),
        items=np.array([item for _, _, item in rows]),
        values=session_log.VALUES,
    )
    for index, ((user, _, item), at) in enumerate(zip(rows, times, strict=True)):
        row = {name: column[index].as_py() for name, column in columns.items()}
        assert row == session_log.slow_features(events, user, at, view, item)
        seen = events[
            (events["user_id"] == user) & (events["timestamp"] < at - chosen.lag_seconds * session_log.SECOND)
        ]
        newest = seen.sort_values(["timestamp", "event_id"]).tail(chosen.events)
        assert bool(complete[index]) == (not newest[[*NAMES]].isna().to_numpy().any())
