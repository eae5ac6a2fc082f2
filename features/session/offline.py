"""The session features of every impression of a log, and the newest events of each user at its end, by DuckDB.

The log is sorted once, by user, timestamp and event id; each impression sees a run of rows right before it, whose end a
window function gives. Work is linear in the sorted log, and memory is that of a batch and the rows that it sees.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.connection import connect
from features.engine.session_view import EVENT_IDS, ITEMS, SCENARIOS, TIMESTAMPS, outcome_column, stored_view
from features.schema import EVENT_TIMESTAMP, Role, Schema, View
from features.session.features import SECOND, impression_features
from features.session.item_values import ItemValues
from features.session.states import States

BATCH_ROWS = 20_000
_AT, _SCENARIO, _INDEX, _BEFORE = "__at", "__scenario", "__index", "__before"
_EVENT, _SORTED = "__event", "__sorted"


def write_features(schema: Schema, view: View, *, events: Path, out: Path, scratch: Path, values: ItemValues) -> None:
    """Write the features of a session view for each event to the Parquet file `out`, beside the id of the event.

    Args:
        schema: Declaration of the data set.
        view: The session view.
        events: Folder of the validated events, one folder per day.
        out: File that is written, in the order of users and timestamps.
        scratch: Folder for what exceeds the memory of DuckDB.
        values: The values of the items that are compared.
    """
    event_id = schema.by_role(Role.EVENT_ID)
    with connect(scratch) as connection, pq.ParquetWriter(out, arrow_schema((*event_id, *view.columns))) as writer:
        for rows, states in _impressions(connection, schema, view, events):
            at, items = rows[_AT].to_numpy(), _numbers(rows[schema.item])
            columns = impression_features(schema, view, states, at, items, values)
            writer.write_table(pa.table({schema.event_id: rows[schema.event_id]} | columns, schema=writer.schema))


def write_states(schema: Schema, view: View, *, events: Path, out: Path, scratch: Path) -> int:
    """Write the newest events of each user of a log to the Parquet file `out`; returns the number of users.

    The arguments are those of `write_features`.
    """
    assert view.session is not None  # of a session view
    user, event_id, timestamp = map(sql.column, (schema.user, schema.event_id, schema.timestamp))
    values = {EVENT_IDS: event_id, TIMESTAMPS: f"epoch_us({timestamp})", ITEMS: sql.column(schema.item)}
    values |= {SCENARIOS: _scenario(schema)} | {outcome_column(task): _outcome(task) for task in schema.averaged}
    columns = stored_view(schema, view).columns
    record = ", ".join(f"{sql.column(c.name)} := {values[c.name]}" for c in columns)
    lists = ", ".join(f"[event.{sql.column(c.name)} for event in {_SORTED}] as {sql.column(c.name)}" for c in columns)
    newest = f"""
        select {user}, {timestamp}, struct_pack({_AT} := {timestamp}, {_INDEX} := {event_id}, {record}) as {_EVENT}
        from {sql.parquet(events, "*/*.parquet")} qualify
        row_number() over (partition by {user} order by {timestamp} desc, {event_id} desc) <= {view.session.kept}"""
    of_users = f"""
        select {user}, max({timestamp}) as {EVENT_TIMESTAMP}, list_sort(list({_EVENT})) as {_SORTED}
        from ({newest}) group by {user}"""  # an ordered list for each column needs several times the memory
    with connect(scratch) as connection:
        connection.execute(
            f"copy (select {user}, {EVENT_TIMESTAMP}, {lists} from ({of_users}) "
            f"order by {EVENT_TIMESTAMP}, {user}) to {sql.literal(out)} (format parquet)"
        )
    return int(pq.read_metadata(out).num_rows)


def _impressions(
    connection: duckdb.DuckDBPyConnection, schema: Schema, view: View, events: Path
) -> Iterator[tuple[pa.Table, States]]:
    """Batches of events, and the newest events that each of them sees."""
    assert view.session is not None  # of a session view
    count, tail, start = view.session.events, None, 0  # `start`: index of the first row of `tail` in the sorted log
    reader = connection.execute(_sorted_log(schema, view, events)).to_arrow_reader(BATCH_ROWS)
    for batch in reader:
        rows = pa.Table.from_batches([batch])
        seen = rows if tail is None else pa.concat_tables([tail, rows])
        index = start + seen.num_rows - rows.num_rows + np.arange(rows.num_rows)
        first = index - rows[_INDEX].to_numpy()  # of the user
        end = first + rows[_BEFORE].to_numpy()
        begin = np.maximum(first, end - count)
        if rows.num_rows:
            yield rows, _states(schema, seen, begin - start, end - start, count)
            tail, start = seen.slice(int(begin[-1]) - start), int(begin[-1])  # later rows see nothing before it


def _states(schema: Schema, rows: pa.Table, begin: NDArray[np.int64], end: NDArray[np.int64], count: int) -> States:
    """The rows from `begin` to `end` [B], the last of them at the end of each row [B, count]."""
    index = end[:, None] - count + np.arange(count)
    present = index >= begin[:, None]
    index = np.where(present, index, 0)
    outcomes = [_numbers(rows[outcome_column(task)])[index] for task in schema.averaged]
    return States(
        present=present,
        timestamps=_numbers(rows[_AT])[index],
        items=_numbers(rows[schema.item])[index],
        scenarios=_numbers(rows[_SCENARIO])[index],
        outcomes=np.stack(outcomes, axis=2) if outcomes else np.empty((*index.shape, 0), np.float32),
    )


def _numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _sorted_log(schema: Schema, view: View, events: Path) -> str:
    """SQL: the events by user and timestamp, with their index within the user's, and how many of these they see."""
    assert view.session is not None  # of a session view
    names = (schema.user, schema.event_id, schema.item, schema.timestamp)
    user, event_id, item, timestamp = map(sql.column, names)
    outcomes = "".join(f", {_outcome(task)} as {sql.column(outcome_column(task))}" for task in schema.averaged)
    younger = view.session.lag_seconds * SECOND + 1  # an event of the same timestamp is not seen
    return f"""
        select {event_id}, {item}, epoch_us({timestamp}) as {_AT}, {_scenario(schema)} as {_SCENARIO},
            row_number() over (partition by {user} order by {_AT}, {event_id}) - 1 as {_INDEX},
            count(*) over (
                partition by {user} order by {_AT} range between unbounded preceding and {younger} preceding
            ) as {_BEFORE}{outcomes}
        from {sql.parquet(events, "*/*.parquet")} order by {user}, {_AT}, {event_id}"""


def _scenario(schema: Schema) -> str:
    """SQL: the index of the scenario."""
    names = ", ".join(map(sql.literal, schema.scenarios))
    return f"(list_position([{names}], {sql.column(schema.scenario)}) - 1)::bigint"


def _outcome(task: str) -> str:
    """SQL: the label of a task, NaN where it is not known."""
    return f"coalesce({sql.column(task)}::float, 'nan'::float)"
