"""The session features of a user at any time, from all events that are known of him: what the service saw, recomputed.

The stage `join` reads a sorted log in batches (features/session/offline.py); here a few requests are looked up.
"""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.schema import Schema, View
from features.session.events import Events, merge
from features.session.features import SECOND, impression_features
from features.session.item_values import ItemValues
from features.session.states import Mask, to_states


def features_as_of(
    schema: Schema,
    view: View,
    events: Events,
    users: NDArray[np.int64],
    at: NDArray[np.int64],
    *,
    items: NDArray[Any],
    values: ItemValues,
) -> tuple[dict[str, pa.Array], Mask]:
    """Each column of a session view [B], and whether every label of the events that a row sees is known [B].

    Args:
        schema: Declaration of the data set.
        view: The session view.
        events: All events of the users, in any order, also later ones and reports that come twice.
        users: Code of the user of each row [B].
        at: Timestamp of each row (microseconds since 1970, UTC) [B].
        items: Item of each row [B], with which the events are compared.
        values: The values of the items that are compared.
    """
    assert view.session is not None  # of a session view
    merged = merge(events, len(events))
    until = at - view.session.lag_seconds * SECOND
    first, last = (np.searchsorted(merged.users, users, side) for side in ("left", "right"))
    runs = zip(first.tolist(), last.tolist(), until.tolist(), strict=True)
    end = np.array(
        [start + np.searchsorted(merged.timestamps[start:stop], time) for start, stop, time in runs], np.int64
    )
    count = np.minimum(end - first, view.session.events)
    rows = np.repeat(np.arange(len(users)), count)
    seen = merged.take(np.arange(len(rows)) + np.repeat(end - count.cumsum(), count))
    complete = np.ones(len(users), np.bool_)
    complete[rows[np.isnan(seen.outcomes).any(axis=1)]] = False
    states = to_states(dataclasses.replace(seen, users=rows), len(users))
    return impression_features(schema, view, states, at, items, values), complete
