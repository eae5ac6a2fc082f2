"""The session features of a request: the user's newest events as the store has them, as of the time of the request."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from features.engine.arrow_types import arrow_schema
from features.engine.session_view import stored_view
from features.schema import Schema, View
from features.session.events import Events, concatenate, from_lists, merge
from features.session.features import SECOND, session_features
from features.session.states import to_states
from serving.ranking.feature_client import UserRow


class Sessions:
    """Computes the columns of the session views of a model for one request."""

    def __init__(self, schema: Schema, views: Sequence[View]) -> None:
        self.schema, self.views = schema, views
        self._types = {view.name: arrow_schema(stored_view(schema, view).columns) for view in views}

    def added_to(self, row: UserRow, at: float) -> UserRow:
        """The row with the features of its events as of `at` (seconds since 1970); no events are a session, too."""
        if not self.views:
            return row
        values = [self._values(view, row.events.get(view.name, []), at) for view in self.views]
        return dataclasses.replace(row, values=dict(row.values, **{k: v for part in values for k, v in part.items()}))

    def _values(self, view: View, stored: Sequence[Mapping[str, Any]], at: float) -> dict[str, Any]:
        assert view.session is not None  # of a session view
        events = [self._events(self._types[view.name], lists) for lists in (stored or [{}])]
        merged = events[0] if len(events) == 1 else merge(concatenate(events), view.session.kept)
        columns = session_features(self.schema, view, to_states(merged, 1), np.array([round(at * SECOND)]))
        return {name: column[0].as_py() for name, column in columns.items()}

    def _events(self, types: pa.Schema, lists: Mapping[str, Any]) -> Events:
        columns = {field.name: pa.array([lists.get(field.name) or []], field.type) for field in types}
        return from_lists(columns, np.zeros(1, np.int64), self.schema)
