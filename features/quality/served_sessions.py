"""The session features of served impressions, recomputed from the events that the service had got by then.

Those are the newest events of the log from which its store was filled (the table of the session view), and all that it
received since, as the collector keeps it by day (serving/feedback/received.py).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from features.engine import sql
from features.engine.connection import connect
from features.engine.session_view import (
    SCENARIO,
    SHOWN,
    compared,
    count_column,
    recent_column,
    seconds_column,
    stored_view,
)
from features.schema import Column, Schema, View
from features.session.as_of import features_as_of
from features.session.events import Events, concatenate, from_lists
from features.session.item_values import ItemValues
from features.session.states import Mask


def recomputed_sessions(
    schema: Schema,
    view: View,
    *,
    served: Mapping[str, pa.ChunkedArray],
    at: pa.ChunkedArray,
    received: Sequence[Path],
    table: Path,
    values: ItemValues,
) -> tuple[dict[str, pa.Array], Mask]:
    """Each column of a session view, and whether every label that a row depends on was reported [B].

    Args:
        schema: Declaration of the data set.
        view: The session view.
        served: User and item of each impression by column [B].
        at: When each was served [B].
        received: Parquet files of received events, a label that nobody reported is null.
        table: Parquet file of the view: the newest events of each user at the end of the log.
        values: The values of the items that are compared.
    """
    users, items = served[schema.user], served[schema.item].to_numpy()
    known = pc.unique(users).cast(users.type)
    events = concatenate([_logged(schema, view, known, table), _received(schema, known, received)])
    codes = pc.index_in(users, known).to_numpy().astype(np.int64)
    micros = at.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()
    return features_as_of(schema, view, events, codes, micros, items=items, values=values)


def reads_labels(view: View, column: Column) -> bool:
    """Whether a column of the view depends on labels, and not only on what was shown."""
    assert view.session is not None  # of a session view
    counts = map(count_column, view.session.windows_seconds)
    shown = {name for name, one in compared(view).items() if one.which == SHOWN}
    return column.name not in {recent_column(SHOWN), seconds_column(SHOWN), SCENARIO, *counts} | shown


def _logged(schema: Schema, view: View, users: pa.Array, table: Path) -> Events:
    """The events of `users` in the table of the view; their codes are indices of `users`."""
    rows = ds.dataset(table).to_table(filter=ds.field(schema.user).isin(users))
    names = [column.name for column in stored_view(schema, view).columns]
    codes = pc.index_in(rows[schema.user], users).to_numpy().astype(np.int64)
    return from_lists({name: rows[name].combine_chunks() for name in names}, codes, schema)


def _received(schema: Schema, users: pa.Array, files: Sequence[Path]) -> Events:
    """The events of `users` in files of received events; their codes are indices of `users`."""
    user, timestamp = sql.column(schema.user), sql.column(schema.timestamp)
    names = ", ".join(map(sql.column, (schema.user, schema.event_id, schema.item, schema.scenario, *schema.averaged)))
    query = f"""
        select {names}, epoch_us({timestamp}) as __at from {sql.parquet_by_name(files)}
        where {user} in (select {user} from __users)"""
    with connect() as connection:
        connection.register("__users", pa.table({schema.user: users}))
        rows = connection.execute(query).to_arrow_table()

    def values(name: str) -> Any:
        return rows[name].to_numpy()

    outcomes = [rows[task].cast(pa.float32()).fill_null(float("nan")).to_numpy() for task in schema.averaged]
    scenarios = pc.index_in(rows[schema.scenario].cast(pa.string()), pa.array(schema.scenarios))
    return Events(
        users=pc.index_in(rows[schema.user], users).to_numpy().astype(np.int64),
        timestamps=values("__at"),
        event_ids=values(schema.event_id),
        items=values(schema.item),
        scenarios=scenarios.to_numpy().astype(np.int64),
        outcomes=np.stack(outcomes, axis=1) if outcomes else np.empty((rows.num_rows, 0), np.float32),
    )
