"""The features of a session, from the newest events of users: the only code that computes them.

The stage `join` calls it for every impression of the log, the service for every request. Letters: B rows (impressions
or requests), K events of each, T tasks, N candidates of a row: the item of an impression, or those of a request.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.engine.feature_columns import engagement
from features.engine.session_view import (
    ENGAGED,
    SCENARIO,
    SHOWN,
    compared,
    count_column,
    mean_column,
    recent_column,
    seconds_column,
    user_columns,
    which_events,
)
from features.schema import Schema, Session, View
from features.session.item_values import NO_VALUE, ItemValues
from features.session.states import Mask, States

SECOND = 1_000_000  # microseconds
MILLIONTHS = 1e6  # in which outcomes are added: sums are exact, in any order


def session_features(schema: Schema, view: View, states: States, at: NDArray[np.int64]) -> dict[str, pa.Array]:
    """Each column of the user in a session view [B], as of the timestamps `at` [B] (microseconds since 1970, UTC).

    Only what the session's lag and outcome delay leave visible then is counted, whatever else the states hold; an event
    of the timestamp itself never is.
    """
    assert view.session is not None  # of a session view
    session, (masks, outcomes) = view.session, _visible(schema, view.session, states, at)
    columns = dict(_recent(schema, session, states, masks, at))
    for seconds in session.windows_seconds:
        within = masks[SHOWN] & _within(states, at, seconds)
        columns[count_column(seconds)] = pa.array(within.sum(axis=1))
        for index, name in enumerate(schema.averaged):
            columns[mean_column(schema, name, seconds)] = _mean(outcomes[:, :, index], within)
    return {column.name: columns[column.name] for column in user_columns(view)}


def impression_features(
    schema: Schema, view: View, states: States, at: NDArray[np.int64], items: NDArray[Any], values: ItemValues
) -> dict[str, pa.Array]:
    """Each column of a session view for impressions of the `items` [B]: those of the user and those of the item [B]."""
    counts = compared_features(schema, view, states, at, items[:, None], values)
    return session_features(schema, view, states, at) | {name: pa.array(count[:, 0]) for name, count in counts.items()}


def compared_features(
    schema: Schema, view: View, states: States, at: NDArray[np.int64], items: NDArray[Any], values: ItemValues
) -> dict[str, NDArray[np.int64]]:
    """Each column of a session view that compares events with the candidates `items` [B, N]: counts [B, N].

    Of the events that `session_features` counts they are those whose item has the candidate's value; a candidate
    without a value has 0.
    """
    wanted = compared(view)
    if not wanted:
        return {}
    assert view.session is not None  # of a session view
    masks, _ = _visible(schema, view.session, states, at)
    windows = list(dict.fromkeys((one.which, one.seconds) for one in wanted.values()))
    counted = np.stack([masks[which] & _within(states, at, seconds) for which, seconds in windows], axis=2)  # [B, K, W]
    counts = {
        name: _same(values, name, states, items).astype(np.float32) @ counted.astype(np.float32)  # [B, N, W]
        for name in view.session.compared_columns
    }
    return {
        name: counts[one.column][:, :, windows.index((one.which, one.seconds))].astype(np.int64)
        for name, one in wanted.items()
    }


def _visible(
    schema: Schema, session: Session, states: States, at: NDArray[np.int64]
) -> tuple[dict[str, Mask], NDArray[np.float32]]:
    """Which events are seen as of `at` [B, K], those shown and those engaged with, and the known outcomes [B, K, T]."""
    until = at - session.lag_seconds * SECOND  # [B]
    seen = _newest(states.present & (states.timestamps < until[:, None]), session.events)  # [B, K]
    known = seen & (states.timestamps < (until - session.outcome_delay_seconds * SECOND)[:, None])
    outcomes = np.where(known[:, :, None], states.outcomes, np.nan)  # [B, K, T]
    masks = {SHOWN: seen}
    if (task := engagement(schema)) is not None:
        masks[ENGAGED] = outcomes[:, :, schema.averaged.index(task)] == 1
    return masks, outcomes


def _within(states: States, at: NDArray[np.int64], seconds: int) -> Mask:
    """The events of the last `seconds` [B, K]."""
    within: Mask = states.timestamps >= (at - seconds * SECOND)[:, None]
    return within


def _same(values: ItemValues, column: str, states: States, items: NDArray[Any]) -> Mask:
    """Whether candidate and event have the same value of a column [B, N, K]."""
    candidate, event = values.codes(column, items)[:, :, None], values.codes(column, states.items)[:, None]
    same: Mask = (candidate == event) & (candidate != NO_VALUE if column != values.item else True)
    return same


def _recent(
    schema: Schema, session: Session, states: States, masks: dict[str, Mask], at: NDArray[np.int64]
) -> Iterator[tuple[str, pa.Array]]:
    """The newest items of shown and engaged events, the seconds since them, and the newest scenario."""
    for which in which_events(schema):
        mask = masks[which]
        rows, newest, some = _last(mask)
        listed = _newest(mask, session.recent_items)
        yield recent_column(which), _lists(states.items, listed)
        seconds = (at - states.timestamps[rows, newest]) / SECOND
        yield seconds_column(which), pa.array(seconds.astype(np.float32), mask=~some)
    rows, newest, some = _last(masks[SHOWN])
    scenario = pa.array(states.scenarios[rows, newest], mask=~some)
    yield SCENARIO, pa.array(schema.scenarios).take(scenario)


def _newest(mask: Mask, count: int) -> Mask:
    """The last `count` true elements of each row."""
    from_end: NDArray[np.int64] = mask[:, ::-1].cumsum(axis=1)[:, ::-1]
    newest: Mask = mask & (from_end <= count)
    return newest


def _last(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], Mask]:
    """Row numbers, the position of the last true element of each row, and whether it has one [B]."""
    newest: NDArray[np.int64] = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)
    return np.arange(len(mask), dtype=np.int64), newest, np.asarray(mask.any(axis=1))


def _lists(values: NDArray[Any], mask: Mask) -> pa.Array:
    """The values of each row where the mask is true; null where there are none."""
    counts = mask.sum(axis=1)
    offsets = pa.array(np.concatenate([[0], counts.cumsum()]).astype(np.int32))
    flat = pa.array(values[mask], pa.int64() if values.dtype == np.int64 else pa.string())
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(counts == 0))


def _mean(outcomes: NDArray[np.float32], within: Mask) -> pa.Array:
    """The mean of the known outcomes [B, K] within a window; null where there are none."""
    known = within & ~np.isnan(outcomes)
    millionths = np.rint(np.where(known, outcomes, 0).astype(np.float64) * MILLIONTHS).astype(np.int64)
    count = known.sum(axis=1)
    mean = millionths.sum(axis=1) / (np.maximum(count, 1) * MILLIONTHS)
    return pa.array(mean.astype(np.float32), mask=count == 0)
