"""The session features of a request: the newest events that the stores have, as of the time of the request.

Most are those of the user; those that compare the events with a candidate are computed for each of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.encoding.encoder import Encoder
from features.engine.session_view import compared
from features.schema import Schema, View
from features.session.events import Events, concatenate, merge, no_events
from features.session.features import SECOND, compared_features, session_features
from features.session.item_values import ItemValues
from features.session.states import States, to_states
from serving.ranking.feature_client import UserRow


class Sessions:
    """Computes the columns of the session views of a model for one request; `items` are the rows of all items."""

    def __init__(self, schema: Schema, views: Sequence[View], items: pa.Table) -> None:
        self.schema, self.views = schema, views
        names = dict.fromkeys(n for view in views if view.session for n in view.session.compared_columns)
        self.values = ItemValues(schema.item, list(names), items if names else items.slice(0, 0))  # else for nothing

    def added_to(self, row: UserRow, at: float) -> UserRow:
        """The row with the features of its events as of `at` (seconds since 1970); no events are a session, too."""
        if not self.views:
            return row
        values = dict(row.values)
        for view in self.views:
            values |= self._values(view, row.events.get(view.name, []), at)
        return dataclasses.replace(row, values=values)

    def compared(self, row: UserRow, at: float, items: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
        """The columns that compare the events of the row with the candidates `items`: counts [N]."""
        counts: dict[str, NDArray[np.int64]] = {}
        for view in filter(compared, self.views):
            states = self._states(view, row.events.get(view.name, []))
            candidates = np.asarray(items, states.items.dtype)[None]
            counts |= compared_features(self.schema, view, states, _microseconds(at), candidates, self.values)
        return {name: count[0] for name, count in counts.items()}

    def _values(self, view: View, stored: Sequence[Events], at: float) -> dict[str, Any]:
        """The columns of the user in a view from the events that one store or two have of the user."""
        columns = session_features(self.schema, view, self._states(view, stored), _microseconds(at))
        return {name: column[0].as_py() for name, column in columns.items()}

    def _states(self, view: View, stored: Sequence[Events]) -> States:
        assert view.session is not None  # of a session view
        events = concatenate(list(stored)) if stored else no_events(self.schema)
        return to_states(merge(events, view.session.kept) if len(stored) > 1 else events, 1)


def encoded_pairs(encoder: Encoder, counts: Mapping[str, NDArray[np.int64]]) -> NDArray[np.float32] | None:
    """The counts [N] as the encoder scales those of them that it reads [N, P]; None where it reads none."""
    read = {column.name for column in encoder.columns}
    wanted = {name: pa.array(count) for name, count in counts.items() if name in read}
    return encoder.encode_numbers(wanted) if wanted else None


def _microseconds(at: float) -> NDArray[np.int64]:
    return np.array([round(at * SECOND)])
