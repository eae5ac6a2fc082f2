"""The feature views that the pipeline computes: users, items, users in a scenario, and sessions."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from common.errors import SchemaError
from common.params import Aggregate
from features.engine.feature_columns import engagement, item_sequence, number
from features.engine.session_view import session_view
from features.schema import Column, DType, Kind, Role, Schema, View, newest_day, refuse_equal

WHOLE_PAST = 100_000  # days: a window longer than any log


def feature_views(schema: Schema, settings: Aggregate) -> tuple[View, ...]:
    """The views of users, items and users in a scenario, with their columns: profile, statistics, recent items.

    The view of sessions comes last, where the settings let it see events.
    """
    session = session_view(schema, settings.session)
    return (*_daily_views(schema, settings), *(() if session is None else (session,)))


def _daily_views(schema: Schema, settings: Aggregate) -> tuple[View, ...]:
    user, item = schema.user, schema.item
    return (
        View(
            name="user",
            keys=(user,),
            columns=(
                *_nullable(schema.profile("users")),
                *_statistics(schema, "user", settings),
                *_recent_items(schema, settings),
            ),
        ),
        View(
            name="item",
            keys=(item,),
            columns=(*_nullable(schema.profile("items")), *_statistics(schema, "item", settings)),
        ),
        View(
            name="user_in_scenario",
            keys=(user, schema.scenario),
            columns=_statistics(schema, "user_in_scenario", settings),
        ),
    )


def check_names(schema: Schema) -> None:
    """Raises SchemaError where a declared column has the name of a statistic, or two tasks have statistics of one name.

    A statistic over any number of days is meant: the windows are a parameter that may change.
    """
    settings = Aggregate(windows=[1], prior_impressions=0, recent_items=1, delay_minutes=0)
    statistics = (_statistics(schema, view.name, settings) for view in _daily_views(schema, settings))
    derived = [column.name for columns in (_recent_items(schema, settings), *statistics) for column in columns]
    refuse_equal(f"data set {schema.name}, the statistics of its tasks", derived)
    kept = {name.casefold() for name in derived}
    for column in (column for table in schema.tables.values() for column in table):
        if re.sub(r"_\d+d$", "_1d", column.name.casefold()) in kept:
            raise SchemaError(
                f"data set {schema.name}: column {column.name!r} has the name of a statistic that the pipeline "
                "computes itself, from the past; declare it under another name, and rename it in `read`"
            )


def windows(settings: Aggregate) -> Iterator[tuple[str, int]]:
    """Name and length in days of each window: those of params.yaml, then the whole past."""
    yield from ((f"{days}d", days) for days in settings.windows)
    yield "all", WHOLE_PAST


def window_columns(schema: Schema, prefix: str, window: str) -> Iterator[Column]:
    """The statistics of a view over one window: impressions, then the rate (of a number: the mean) of each task."""
    yield number(f"{prefix}_impressions_{window}", DType.INT64, log=True)
    for task in schema.averaged:
        yield number(statistic_name(schema, prefix, task, window), DType.FLOAT32, log=task in schema.regressed)


def statistic_name(schema: Schema, prefix: str, task: str, window: str) -> str:
    """The name of the rate of a task over a window, or of the mean of a regression target."""
    return f"{prefix}_{task}_{'mean' if task in schema.regressed else 'rate'}_{window}"


def history_days(schema: Schema, views: Iterable[View]) -> dict[str, int]:
    """Days of the past that each statistic of the views is computed over, by its name; recent items: the whole past.

    It follows from the names that `window_columns` gives, so that views.json needs no field for it.
    """
    declared = {column.name for table in schema.tables.values() for column in table}
    of_task = "|".join(
        re.escape(f"{task}_{'mean' if task in schema.regressed else 'rate'}") for task in schema.averaged
    )
    days = {}
    for view in views:
        name = re.compile(rf"{re.escape(view.name)}_(?:impressions|{of_task})_(?:all|(?P<days>\d+)d)")
        for column in view.columns:
            match = None if column.name in declared else name.fullmatch(column.name)
            if match or (column.kind is Kind.SEQUENCE and column.name not in declared):
                window = match and match["days"]
                days[column.name] = int(window) if window else WHOLE_PAST
    return days


def _recent_items(schema: Schema, settings: Aggregate) -> tuple[Column, Column]:
    """The user's recent items, and the day of the newest of them."""
    task = engagement(schema)
    desc = f"items of the newest impressions{f' with {task} = 1' if task else ''}, newest last"
    recent = item_sequence(schema, "user_recent_items", settings.recent_items, desc)
    newest = Column(
        name=newest_day(recent.name),
        role=Role.NEWEST_DAY,
        dtype=DType.INT64,
        nullable=True,
        desc=f"day of the newest of {recent.name}",
    )
    return recent, newest


def _nullable(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns of a profile, which is null as of a timestamp at which its owner was not known."""
    return tuple(dataclasses.replace(column, nullable=True) for column in columns)


def _statistics(schema: Schema, prefix: str, settings: Aggregate) -> tuple[Column, ...]:
    return tuple(column for window, _ in windows(settings) for column in window_columns(schema, prefix, window))
