"""Random logs of a few users, the settings of their sessions, and the features by a plain loop over the past."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from common.params import SessionFeatures
from features.engine.session_view import session_view
from features.schema import Column, DType, Kind, Role, Schema, View
from features.session.item_values import ItemValues
from tests.support import world

KIND = Column(name="kind", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL, nullable=True)
KINDS = ("a", "b", "a", None)  # of the four items
SCHEMA = dataclasses.replace(world.schema(), items=(*world.schema().items, KIND))
ITEMS = pa.table({"item_id": list(range(len(KINDS))), "kind": KINDS})
VALUES = ItemValues("item_id", ["kind"], ITEMS)
SECOND = pd.Timedelta(seconds=1)


@st.composite
def settings(draw: st.DrawFn) -> SessionFeatures:
    """Few events, and windows, lag and delay of the length of the log."""
    return SessionFeatures(
        events=draw(st.integers(1, 5)),
        recent_items=draw(st.integers(1, 3)),
        windows_seconds=draw(st.lists(st.integers(1, 40), min_size=1, max_size=2, unique=True)),
        lag_seconds=draw(st.sampled_from([0, 0, 1, 7])),
        outcome_delay_seconds=draw(st.sampled_from([0, 0, 5])),
        compared_columns=draw(st.sampled_from([[], ["item_id"], ["kind", "item_id"]])),
    )


@st.composite
def logs(draw: st.DrawFn, rows: int = 40) -> pd.DataFrame:
    """Events of three users within a minute, some at one timestamp, some without labels."""
    count = draw(st.integers(1, rows))
    events = world.tables(rows=count, users=3, items=4, seed=draw(st.integers(0, 10_000)))["events"]
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    ticks = np.sort(random.integers(0, 120, count))
    events["timestamp"] = (world.START + pd.to_timedelta(ticks * 500, unit="ms")).astype("datetime64[us]")
    return events.assign(order=events["order"].mask(random.random(count) < 0.3).astype("Int8"))


def view_of(chosen: SessionFeatures, schema: Schema = SCHEMA) -> View:
    """The session view of the settings."""
    view = session_view(schema, chosen)
    assert view is not None
    return view


def slow_features(events: pd.DataFrame, user: Any, at: pd.Timestamp, view: View, item: int) -> dict[str, Any]:
    """The features of a user and a candidate as of a timestamp, by a loop over all events."""
    assert view.session is not None
    session = view.session
    until = at - session.lag_seconds * SECOND
    past = [row for row in events.sort_values(["timestamp", "event_id"]).itertuples() if row.user_id == user]
    seen = [row for row in past if row.timestamp < until][-session.events :]
    known = [row for row in seen if row.timestamp + session.outcome_delay_seconds * SECOND < until]
    features: dict[str, Any] = {}
    for which, rows in (("shown", seen), ("engaged", [row for row in known if row.click == 1])):
        newest = rows[-session.recent_items :]
        features[f"session_recent_{which}"] = [row.item_id for row in newest] or None
        seconds = np.float32((at - newest[-1].timestamp).total_seconds()) if newest else None
        features[f"session_seconds_since_{which}"] = seconds
    features["session_scenario"] = seen[-1].scenario if seen else None
    for window in session.windows_seconds:
        features[f"session_events_{window}s"] = sum(row.timestamp >= at - window * SECOND for row in seen)
        for task in ("click", "order"):
            labels = [getattr(row, task) for row in known if row.timestamp >= at - window * SECOND]
            labels = [label for label in labels if not pd.isna(label)]
            features[f"session_{task}_rate_{window}s"] = np.float32(sum(labels) / len(labels)) if labels else None
        for column in session.compared_columns:
            for which, rows in (("shown", seen), ("engaged", [row for row in known if row.click == 1])):
                same = [row for row in rows if _value(row.item_id, column) == _value(item, column) is not None]
                within = [row for row in same if row.timestamp >= at - window * SECOND]
                features[f"session_same_{column}_{which}_{window}s"] = len(within)
    return features


def _value(item: int, column: str) -> Any:
    return item if column == "item_id" else KINDS[item]


def with_settings(view: View, **changes: Any) -> View:
    """The view with other settings of its session; its columns stay."""
    assert view.session is not None
    return dataclasses.replace(view, session=dataclasses.replace(view.session, **changes))
