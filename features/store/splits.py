"""The split of the impressions into train, valid and test, by time or at random."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common.errors import JoinError
from common.params import Join
from features.engine import sql
from features.engine.connection import connect
from features.schema import Schema

SPARSE, FEW = 10, 10_000_000  # ids for each event, beyond so many ids: what is drawn for each would not fit
Assign = Callable[[pa.Table], NDArray[np.integer]]  # impressions [N] to 0, 1 or 2 [N]: train, valid or test


def assign_splits(events: Path, schema: Schema, settings: Join) -> Assign:
    """A function from impressions [N] to 0, 1 or 2 [N]: train, valid or test.

    `time`: test is the fewest whole last days that hold at least `test_share` of the rows, valid likewise before them.
    `random`: a draw by seed over all event ids; all candidates of a choice set have the split of its least event id.
    Raises JoinError where a split by time leaves no day to train on, or one at random has ids that ingest did not give.
    """
    source = sql.parquet(events, "*/*.parquet")
    with connect() as connection:
        if settings.split == "random":
            event_id = sql.column(schema.event_id)
            bounds = f"select min({event_id}), max({event_id}), count(*) from {source}"
            least, newest, rows = connection.execute(bounds).fetchone() or (0, 0, 0)
            if least < 0 or newest > max(SPARSE * rows, FEW):
                raise JoinError(
                    f"join.split random draws over the event ids 0 to N - 1 that ingest gives; found {rows:,} events "
                    f"with ids of their own, from {least} to {newest}: set join.split to time"
                )
            ids = int(newest) + 1
            first = None if schema.choice_set is None else _first_of_set(connection, source, schema, ids)
            return random_split(ids, schema, settings, first)
        daily = connection.execute(
            f"select {sql.column(schema.timestamp)}::date as __day, count(*) from {source} group by all order by __day"
        ).fetchall()
    return time_split(daily, schema, settings)


def random_split(ids: int, schema: Schema, settings: Join, first: NDArray[np.integer] | None = None) -> Assign:
    """Draw the split of the event ids 0 to `ids` - 1; where `first` is given, each takes the split of `first[id]`."""
    drawn = np.random.default_rng(settings.seed).permutation(ids)
    train = round(ids * (1 - settings.valid_share - settings.test_share))
    valid = round(ids * settings.valid_share)
    codes = ((drawn >= train).astype("int8") + (drawn >= train + valid)).astype("int8")
    codes = codes if first is None else codes[first]
    return lambda impressions: codes[impressions[schema.event_id].to_numpy()]


def _first_of_set(connection: duckdb.DuckDBPyConnection, source: str, schema: Schema, ids: int) -> NDArray[np.integer]:
    """The least event id of the choice set of each event [ids]."""
    assert schema.choice_set is not None
    event_id, choice_set = sql.column(schema.event_id), sql.column(schema.choice_set)
    result = connection.execute(
        f"select {event_id} as __event, min({event_id}) over (partition by {choice_set}) as __first from {source}"
    ).fetchnumpy()
    first = np.arange(ids)
    first[result["__event"]] = result["__first"]
    return first


def time_split(daily: list[tuple[date, int]], schema: Schema, settings: Join) -> Assign:
    """Cut at midnights; `daily` are the days with their numbers of rows. Raises JoinError on fewer than three days."""
    days, rows = np.array([day for day, _ in daily], "datetime64[us]"), np.array([count for _, count in daily])
    remaining = rows[::-1].cumsum()[::-1]  # rows of a day and all later ones
    test = np.flatnonzero(remaining >= settings.test_share * rows.sum())[-1]
    valid = np.flatnonzero(remaining - remaining[test] >= settings.valid_share * rows.sum())
    if not len(valid) or not valid[-1]:
        raise JoinError(
            f"a split by time needs at least three days with rows, found {len(days)} ({', '.join(map(str, daily))}): "
            "nothing would be left to train on. Set join.split to random or take smaller shares in params.yaml."
        )
    starts = days[[valid[-1], test]]
    return lambda impressions: np.searchsorted(starts, impressions[schema.timestamp].to_numpy(), "right")
