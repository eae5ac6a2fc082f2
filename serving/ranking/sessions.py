"""The session features of a request: the newest events that the stores have, as of the time of the request."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.schema import Schema, View
from features.session.events import Events, concatenate, merge, no_events
from features.session.features import SECOND, session_features
from features.session.states import to_states
from serving.ranking.feature_client import UserRow


class Sessions:
    """Computes the columns of the session views of a model for one request."""

    def __init__(self, schema: Schema, views: Sequence[View]) -> None:
        self.schema, self.views = schema, views

    def added_to(self, row: UserRow, at: float) -> UserRow:
        """The row with the features of its events as of `at` (seconds since 1970); no events are a session, too."""
        if not self.views:
            return row
        values = dict(row.values)
        for view in self.views:
            values |= self._values(view, row.events.get(view.name, []), at)
        return dataclasses.replace(row, values=values)

    def _values(self, view: View, stored: Sequence[Events], at: float) -> dict[str, Any]:
        """The columns of a view from the events that one store or two have of the user."""
        assert view.session is not None  # of a session view
        events = concatenate(list(stored)) if stored else no_events(self.schema)
        merged = merge(events, view.session.kept) if len(stored) > 1 else events
        columns = session_features(self.schema, view, to_states(merged, 1), np.array([round(at * SECOND)]))
        return {name: column[0].as_py() for name, column in columns.items()}
