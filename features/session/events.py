"""Events of users as arrays, and how they are merged: commutative, associative and idempotent."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.engine.session_view import EVENT_IDS, ITEMS, SCENARIOS, TIMESTAMPS, outcome_column
from features.schema import DType, Role, Schema


@dataclass(frozen=True)
class Events:
    """N events: `users` int64 [N] (codes), `timestamps` int64 [N] (us since 1970, UTC), `event_ids` int64 [N].

    `items` [N] are ids, `scenarios` int64 [N] are indices of the schema's. `outcomes` float32 [N, T] are the labels of
    the tasks whose labels have a mean, NaN where they are not known.
    """

    users: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    event_ids: NDArray[np.int64]
    items: NDArray[Any]
    scenarios: NDArray[np.int64]
    outcomes: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.users)

    def take(self, indices: NDArray[Any]) -> "Events":
        """The events with these indices, or where a mask is true."""
        return Events(*(values[indices] for values in vars(self).values()))


def concatenate(parts: list[Events]) -> Events:
    """All events of the parts."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Events(*(np.concatenate(of_each) for of_each in columns))


def merge(events: Events, kept: int) -> Events:
    """The newest `kept` events of each user, each once with every known outcome, by (user, timestamp, event id).

    Of outcomes that contradict each other the larger one counts, of other contradictions the last in order of value.
    """
    if not len(events):
        return events
    items = np.unique(events.items, return_inverse=True)[1]
    order = np.lexsort((items, events.scenarios, events.event_ids, events.timestamps, events.users))
    events = events.take(order)
    identity = np.stack([events.users, events.timestamps, events.event_ids])  # [3, N]
    first = np.flatnonzero(np.append(True, (identity[:, 1:] != identity[:, :-1]).any(axis=0)))
    last = np.append(first[1:], len(events)) - 1
    outcomes = np.fmax.reduceat(events.outcomes, first, axis=0)
    events = dataclasses.replace(events.take(last), outcomes=outcomes)
    ends = np.searchsorted(events.users, events.users, side="right")
    return events.take(ends - np.arange(len(events)) <= kept)


def to_lists(events: Events, schema: Schema) -> dict[str, pa.Array]:
    """The columns of the table of a session view, a row per user [U], from events in the order of `merge`."""
    starts = np.flatnonzero(np.append(True, events.users[1:] != events.users[:-1])) if len(events) else np.empty(0)
    offsets = pa.array(np.append(starts, len(events)).astype(np.int32))
    item = pa.int64() if events.items.dtype == np.int64 else pa.string()
    columns: dict[str, Any] = {
        EVENT_IDS: pa.array(events.event_ids),
        TIMESTAMPS: pa.array(events.timestamps),
        ITEMS: pa.array(events.items, item),
        SCENARIOS: pa.array(events.scenarios),
    } | {outcome_column(task): pa.array(events.outcomes[:, index]) for index, task in enumerate(schema.averaged)}
    return {name: pa.ListArray.from_arrays(offsets, values) for name, values in columns.items()}


def from_lists(lists: Mapping[str, pa.Array], users: NDArray[np.int64], schema: Schema) -> Events:
    """The events in the columns of the table of a session view, whose rows are of the users `users` [U]."""
    items = lists[ITEMS]
    counts = pc.fill_null(pc.list_value_length(items), 0).to_numpy()
    outcomes = [_outcomes(items, lists[outcome_column(task)]).to_numpy() for task in schema.averaged]
    return Events(
        users=np.repeat(users, counts),
        timestamps=lists[TIMESTAMPS].flatten().to_numpy(),
        event_ids=lists[EVENT_IDS].flatten().to_numpy(),
        items=items.flatten().to_numpy(zero_copy_only=False),
        scenarios=lists[SCENARIOS].flatten().to_numpy(),
        outcomes=np.stack([*outcomes], axis=1) if outcomes else np.empty((int(counts.sum()), 0), np.float32),
    )


def from_values(values: Mapping[str, Any], schema: Schema) -> Events:
    """The events in the columns of one row of such a table, as Python values; their user has the code 0."""
    items = np.array(values[ITEMS] or [], np.int64 if _item_type(schema) is DType.INT64 else object)
    outcomes = np.full((len(items), len(schema.averaged)), np.nan, np.float32)
    for index, task in enumerate(schema.averaged):
        known = values[outcome_column(task)] or []
        if len(known) == len(items):  # else it was written without this task
            outcomes[:, index] = known
    return Events(
        users=np.zeros(len(items), np.int64),
        timestamps=np.array(values[TIMESTAMPS] or [], np.int64),
        event_ids=np.array(values[EVENT_IDS] or [], np.int64),
        items=items,
        scenarios=np.array(values[SCENARIOS] or [], np.int64),
        outcomes=outcomes,
    )


def no_events(schema: Schema) -> Events:
    """The events of a user of whom there are none."""
    return from_values(defaultdict(list), schema)


def _item_type(schema: Schema) -> DType:
    return schema.by_role(Role.ITEM)[0].dtype


def _outcomes(items: pa.Array, outcomes: pa.Array) -> pa.Array:
    """The outcomes of all events, NaN where a user's list has another length: it was written without this task."""
    counts = pc.fill_null(pc.list_value_length(items), 0)
    same = pc.equal(counts, pc.fill_null(pc.list_value_length(outcomes), 0))
    if pc.all(same).as_py():
        return outcomes.flatten()
    ends = np.cumsum([0, *counts.to_pylist()])
    unknown = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.full(ends[-1], np.nan, np.float32)))
    return pc.if_else(same, outcomes, unknown).flatten()
