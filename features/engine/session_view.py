"""The session view: features of a user's newest events, computed for each impression; and the table of these events.

`features/session/` computes them. The columns of the view are what a model reads; the table, which Feast keeps, holds
the newest events of each user as lists, oldest first. Columns that compare these events with a candidate (`compared`)
have a value for each user and item; all others are those of the user.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from common.errors import ParameterError
from common.params import SessionFeatures
from features.engine.feature_columns import engagement, item_sequence, number
from features.schema import Column, DType, Kind, Role, Schema, Session, View, refuse_equal

NAME = "session"
EVENT_IDS, TIMESTAMPS = "session_event_ids", "session_timestamps"  # columns of the table
ITEMS, SCENARIOS, OUTCOMES = "session_items", "session_scenarios", "session_outcomes"
SCENARIO = "session_scenario"  # columns of the view
SHOWN, ENGAGED = "shown", "engaged"  # which events: all, or those with the label 1 of the task of engagement


class Compared(NamedTuple):
    """What a column of a session view counts: events `which` of the last `seconds` with the candidate's value."""

    column: str
    which: str
    seconds: int


def session_view(schema: Schema, settings: SessionFeatures) -> View | None:
    """The view of the features that are set; None where no event is seen.

    Raises SchemaError where a declared column has the name of such a feature, and ParameterError where the column of
    items that it shall compare does not exist.
    """
    if settings.events == 0:
        return None
    session = Session.of(settings.model_dump())
    known = [column.name for column in schema.items if column.kind is Kind.CATEGORICAL]
    if unknown := [name for name in session.compared_columns if name not in known]:
        raise ParameterError(
            f"aggregate.session.compared_columns: {', '.join(unknown)} of {schema.name} "
            f"cannot be compared; expected some of its items' categorical columns: {', '.join(known)}"
        )
    columns = tuple(_columns(schema, session))
    declared = dict.fromkeys(column.name for table in schema.tables.values() for column in table)
    refuse_equal(f"data set {schema.name}, its columns and session features", (*declared, *(c.name for c in columns)))
    return View(name=NAME, keys=(schema.user,), columns=columns, session=session)


def stored_view(schema: Schema, view: View) -> View:
    """The view as its table holds it: of a session view the newest events of a user, of another one the view itself."""
    return view if view.session is None else View(name=view.name, keys=view.keys, columns=_lists(schema, view.session))


def stored_views(schema: Schema, views: Iterable[View]) -> tuple[View, ...]:
    """Each view as its table holds it."""
    return tuple(stored_view(schema, view) for view in views)


def session_views(views: Iterable[View]) -> tuple[View, ...]:
    """The views whose features are computed from a user's newest events."""
    return tuple(view for view in views if view.session is not None)


def outcome_column(task: str) -> str:
    """The column of the table with the outcomes of a task."""
    return f"{OUTCOMES}_{task}"


def recent_column(which: str) -> str:
    """The column of the view with the newest items, of the events `which` (SHOWN or ENGAGED)."""
    return f"{NAME}_recent_{which}"


def seconds_column(which: str) -> str:
    """The column of the view with the seconds since the newest of the events `which`."""
    return f"{NAME}_seconds_since_{which}"


def count_column(seconds: int) -> str:
    """The column of the view with the number of events of the last `seconds`."""
    return f"{NAME}_events_{seconds}s"


def mean_column(schema: Schema, task: str, seconds: int) -> str:
    """The column of the view with the rate of a task (of a number: its mean) in the last `seconds`."""
    return f"{NAME}_{task}_{'mean' if task in schema.regressed else 'rate'}_{seconds}s"


def compared(view: View) -> dict[str, Compared]:
    """The columns of a view that compare a user's newest events with a candidate; none without a session."""
    if view.session is None:
        return {}
    of_session, names = view.session, {column.name for column in view.columns}
    every = {
        _compared_column(one): one
        for name in of_session.compared_columns
        for which in (SHOWN, ENGAGED)
        for one in (Compared(name, which, seconds) for seconds in of_session.windows_seconds)
    }
    return {name: one for name, one in every.items() if name in names}


def user_columns(view: View) -> tuple[Column, ...]:
    """The columns of a view that have one value for all candidates of a request."""
    of_items = compared(view)
    return tuple(column for column in view.columns if column.name not in of_items)


def which_events(schema: Schema) -> tuple[str, ...]:
    """SHOWN, and ENGAGED where a task says what engagement is."""
    return (SHOWN,) if engagement(schema) is None else (SHOWN, ENGAGED)


def _columns(schema: Schema, session: Session) -> Iterator[Column]:
    for which in which_events(schema):
        yield item_sequence(schema, recent_column(which), session.recent_items, f"items of the newest events ({which})")
        yield number(seconds_column(which), DType.FLOAT32, log=True)
    scenario = schema.by_role(Role.SCENARIO)[0]
    yield Column(
        name=SCENARIO,
        role=Role.FEATURE,
        dtype=scenario.dtype,
        kind=Kind.CATEGORICAL,
        nullable=True,
        values=scenario.values,
        domain=scenario.vocabulary,
        desc="of the newest event",
    )
    for seconds in session.windows_seconds:
        yield number(count_column(seconds), DType.INT64, log=True)
        for task in schema.averaged:
            yield number(mean_column(schema, task, seconds), DType.FLOAT32, log=task in schema.regressed)
    for name in session.compared_columns:
        for which in which_events(schema):
            for seconds in session.windows_seconds:
                counted = number(_compared_column(Compared(name, which, seconds)), DType.INT64, log=True)
                yield dataclasses.replace(counted, nullable=False)


def _compared_column(one: Compared) -> str:
    return f"{NAME}_same_{one.column}_{one.which}_{one.seconds}s"


def _lists(schema: Schema, session: Session) -> tuple[Column, ...]:
    """The columns of the table: ids, timestamps (microseconds since 1970), items, scenarios and outcomes."""

    def listed(name: str, dtype: DType, kind: Kind) -> Column:
        return Column(name=name, role=Role.FEATURE, dtype=dtype, kind=kind, length=session.kept)

    return (
        listed(EVENT_IDS, DType.INT64_LIST, Kind.SEQUENCE),
        listed(TIMESTAMPS, DType.INT64_LIST, Kind.SEQUENCE),
        item_sequence(schema, ITEMS, session.kept, "items of the newest events, oldest first"),
        listed(SCENARIOS, DType.INT64_LIST, Kind.SEQUENCE),
        *(listed(outcome_column(task), DType.FLOAT32_LIST, Kind.VECTOR) for task in schema.averaged),
    )
