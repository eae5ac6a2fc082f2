"""Daily statistics and recent items of users and items, from the past only, as portable statements.

A snapshot of day D holds what happened on the days before D and is known `delay_minutes` after its midnight (UTC):
that timestamp is its `event_timestamp`. Nothing of day D or later enters it. Snapshots are written only for the days on
which an entity's values change (a day of events enters or leaves a window), so a join as of any timestamp finds the
newest values and an inactive entity costs nothing. Before its first snapshot an entity has one row with its profile,
valid from the time it is known.

Sums are of integers, and each rate is one division in double precision and one cast: no engine rounds otherwise.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from common.params import Aggregate
from features.engine import sql
from features.engine.arrow_types import TYPES, arrow_schema
from features.engine.feature_columns import engagement
from features.engine.feature_views import window_columns, windows
from features.engine.protocol import Engine
from features.schema import EVENT_TIMESTAMP, Column, DType, Schema, View

EPOCH = "timestamp '1970-01-01'"
BEGINNING = "timestamp '1900-01-01'"  # from which on the online store reads; who is known since before has this


def open_events(engine: Engine, schema: Schema, validated: Path) -> None:
    """Define the relations of events (with `__day_number`), users, items, and the rate of each task by day."""
    engine.read("__log", validated / "events", "*/*.parquet")
    day = _day_number(sql.column(schema.timestamp))
    engine.define("__events", f"select *, {day} as __day_number from __log")
    for table in ("users", "items"):
        engine.read(f"__{table}", validated / f"{table}.parquet")
    engine.keep("__span", "select min(__day_number) as __first_day, max(__day_number) + 1 as __last_day from __events")
    engine.keep("__overall", _overall(schema))


def write_view(engine: Engine, schema: Schema, view: View, settings: Aggregate, out: Path) -> int:
    """Write the snapshots of a view to the Parquet file `out`; returns the number of rows."""
    engine.keep("__snapshots", _snapshots(schema, view, settings))
    columns = sql.columns((*view.keys, EVENT_TIMESTAMP, *(c.name for c in view.columns)))
    order = sql.columns((EVENT_TIMESTAMP, *view.keys))
    types = view_types(schema, view)
    return engine.write(f"select {columns} from {_with_profile(schema, view)} order by {order}", types, out)


def view_types(schema: Schema, view: View) -> pa.Schema:
    """The columns of a view's Parquet file: keys, event_timestamp, features."""
    of_event = {column.name: column for column in schema.events}
    keys = arrow_schema(tuple(of_event[key] for key in view.keys), pa.field(EVENT_TIMESTAMP, TYPES[DType.TIMESTAMP]))
    return pa.schema([*keys, *arrow_schema(view.columns)])


def _day_number(timestamp: str) -> str:
    """SQL: days from 1970 to a timestamp."""
    return f"date_diff('day', date '1970-01-01', ({timestamp})::date)::bigint"


def _overall(schema: Schema) -> str:
    """SQL: rate of each task over all impressions of the days before each day (null before the first)."""
    daily = ", ".join(_sum_and_count(schema, task) for task in schema.averaged)
    rates = ", ".join(
        f"(sum({_sum(task)}) over __past)::double / nullif(sum({_count(task)}) over __past, 0)::double as {_rate(task)}"
        for task in schema.averaged
    )
    return f"""
        with __daily as (select __day_number, {daily} from __events group by __day_number),
        __days as (select unnest(generate_series(__first_day, __last_day)) as __day_number from __span)
        select __days.__day_number, {rates}
        from __days left join __daily on __days.__day_number = __daily.__day_number
        window __past as (order by __days.__day_number rows between unbounded preceding and 1 preceding)"""


def _with_profile(schema: Schema, view: View) -> str:
    """SQL: the snapshots joined with the profile of their user or item, and the user's recent items."""
    user, item = sql.column(schema.user), sql.column(schema.item)
    if view.name == "item":
        return f"__snapshots left join __items using ({item})"
    if view.name == "user":
        return f"""__snapshots left join __users using ({user})
            left join ({_recent(schema, *view.columns[-2:])}) as __recent using ({user}, __day_number)"""
    return "__snapshots"


def _recent(schema: Schema, recent: Column, newest: Column) -> str:
    """SQL: per user and day of change the newest `recent.length` items engaged with before that day, newest last.

    The list of each engagement is a window, which DuckDB computes user by user: an aggregate of lists is held in memory
    for all users at once.
    """
    user, item = sql.column(schema.user), sql.column(schema.item)
    order = sql.columns((schema.timestamp, schema.event_id))
    recent_items, newest_day = sql.column(recent.name), sql.column(newest.name)
    task = engagement(schema)
    engaged = f" where {sql.column(task)} = 1" if task else ""
    return f"""
        with __engaged as (
            select {user}, __day_number, row_number() over (partition by {user} order by {order}) as __position,
                array_agg({item}) over (
                    partition by {user} order by {order} rows between {recent.length} - 1 preceding and current row
                ) as __items
            from __events{engaged}),
        __days as (
            select {user}, __day_number, count(*) as __engagements, false as __change
            from __engaged group by {user}, __day_number
            union all
            select distinct {user}, __day_number, 0, true from __snapshots),
        __reached as (
            select {user}, __day_number, __change, sum(__engagements) over __past as __newest
            from __days window __past as (
                partition by {user} order by __day_number range between unbounded preceding and 1 preceding))
        select __reached.{user}, __reached.__day_number, __engaged.__day_number as {newest_day},
            __engaged.__items as {recent_items}
        from __reached join __engaged on __reached.{user} = __engaged.{user} and __position = __newest
        where __change"""


def _snapshots(schema: Schema, view: View, settings: Aggregate) -> str:
    """SQL: one row per entity and day of change, with every statistic over the days before that day."""
    keys = sql.columns(view.keys)
    sums = ", ".join(_sum_and_count(schema, task) for task in schema.averaged)
    zeros = ", ".join(f"0 as {_sum(task)}, 0 as {_count(task)}" for task in schema.averaged)
    totals = ", ".join(f"{_sum(task)}, {_count(task)}" for task in schema.averaged)
    rates = ", ".join(f"__overall.{_rate(task)}" for task in schema.averaged)
    steps = ", ".join(f"({step})" for step in sorted({1, *(days + 1 for days in settings.windows)}))
    columns = {
        column.name: expression
        for window, days in windows(settings)
        for column, expression in zip(
            window_columns(schema, view.name, window), _expressions(schema, days, settings), strict=True
        )
    }
    statistics = ", ".join(f"{expression} as {sql.column(name)}" for name, expression in columns.items())
    return f"""
        with __daily as (
            select {keys}, __day_number, count(*) as __impressions, {sums} from __events group by {keys}, __day_number),
        __entered as (
            select distinct {keys}, __day_number + __step as __day_number, null::timestamp as __known_at
            from __daily cross join (values {steps}) as __steps(__step)),
        __changes as (
            select {keys}, __day_number, __known_at from __entered cross join __span where __day_number <= __last_day
            union all {_known(schema, view, keys)}),
        __marked as (
            select {keys}, __day_number, __impressions, {totals}, false as __change, null::timestamp as __known_at
            from __daily
            union all
            select {keys}, __day_number, 0, {zeros}, true, __known_at from __changes),
        __rated as (
            select __marked.*, {rates}
            from __marked left join __overall on __marked.__day_number = __overall.__day_number),
        __counted as (select __rated.*, {statistics} from __rated window {_frames(settings, keys)})
        select {keys}, __day_number, {sql.columns(columns)}, coalesce(
            __known_at,
            {EPOCH} + __day_number * interval '1' day + interval '{settings.delay_minutes}' minute
        )::timestamp as {EVENT_TIMESTAMP}
        from __counted where __change"""


def _frames(settings: Aggregate, keys: str) -> str:
    """SQL: a window clause `__past_<days>` for each window: the days before the row's own."""
    return ", ".join(
        f"__past_{days} as (partition by {keys} order by __day_number range between {days} preceding and 1 preceding)"
        for _, days in windows(settings)
    )


def _expressions(schema: Schema, days: int, settings: Aggregate) -> Iterator[str]:
    """SQL: impressions, then (labels + prior * overall rate) / (observed + prior) per task (additive smoothing)."""
    yield f"coalesce(sum(__impressions) over __past_{days}, 0)::bigint"
    prior = f"{settings.prior_impressions}::double"
    for task in schema.averaged:
        labels, observed = (f"coalesce(sum({column(task)}) over __past_{days}, 0)::double" for column in (_sum, _count))
        overall = f"coalesce({prior} * {_rate(task)}, {'0' if settings.prior_impressions == 0 else 'null'})"
        yield f"(({labels} + {overall}) / nullif({observed} + {prior}, 0))::float"


def _known(schema: Schema, view: View, keys: str) -> str:
    """SQL: the row from which a user or item exists, with its profile and no past; none for pairs."""
    if len(view.keys) > 1:
        return f"select {keys}, __day_number, __known_at from __entered where false"
    table = "users" if view.name == "user" else "items"
    start = f"{EPOCH} + __first_day * interval '1' day"
    column = schema.known_at(table)
    known = f"greatest(coalesce({sql.column(column)}, {start}), {BEGINNING})" if column else start
    return f"""
        select {keys}, {_day_number(known)} as __day_number, ({known})::timestamp as __known_at
        from __{table} cross join __span"""


def _sum_and_count(schema: Schema, task: str) -> str:
    """SQL: sum and number of the labels; a number counts in millionths, whose sums are exact in any order."""
    label = sql.column(task)
    label = f"{label}::double::decimal(18, 6)" if task in schema.regressed else label
    return f"sum({label}) as {_sum(task)}, count({label}) as {_count(task)}"


def _sum(task: str) -> str:
    return sql.column(f"__sum_{task}")


def _count(task: str) -> str:
    return sql.column(f"__count_{task}")


def _rate(task: str) -> str:
    return sql.column(f"__rate_{task}")
