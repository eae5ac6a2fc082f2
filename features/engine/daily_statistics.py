"""Daily statistics and recent items of users and items, from the past only, computed by DuckDB.

A snapshot of day D holds what happened on the days before D and is known `delay_minutes` after its midnight (UTC):
that timestamp is its `event_timestamp`. Nothing of day D or later enters it. Snapshots are written only for the days on
which an entity's values change (a day of events enters or leaves a window), so a join as of any timestamp finds the
newest values and an inactive entity costs nothing. Before its first snapshot an entity has one row with its profile,
valid from the time it is known.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from common.params import Aggregate
from features.engine import sql
from features.engine.feature_views import engagement, window_columns, windows
from features.schema import EVENT_TIMESTAMP, Column, Schema, View

EPOCH = "date '1970-01-01'"
BEGINNING = "timestamp '1900-01-01'"  # from which on the online store reads; who is known since before has this


def open_events(connection: duckdb.DuckDBPyConnection, schema: Schema, validated: Path) -> None:
    """Create views of events (with `__day_number`), users and items, and `__overall`, the rate of each task by day."""
    events = sql.parquet(validated / "events", "*/*.parquet")
    connection.execute(
        f"create view __events as select *, {_day_number(sql.column(schema.timestamp))} as __day_number from {events}"
    )
    for table in ("users", "items"):
        connection.execute(f"create view __{table} as select * from {sql.parquet(validated / f'{table}.parquet')}")
    connection.execute(
        "create table __span as "
        "select min(__day_number) as __first_day, max(__day_number) + 1 as __last_day from __events"
    )
    connection.execute(f"create table __overall as {_overall(schema)}")


def write_view(
    connection: duckdb.DuckDBPyConnection, schema: Schema, view: View, settings: Aggregate, out: Path
) -> int:
    """Write the snapshots of a view to the Parquet file `out`; returns the number of rows."""
    connection.execute(f"create or replace temp table __snapshots as {_snapshots(schema, view, settings)}")
    columns = sql.columns((*view.keys, EVENT_TIMESTAMP, *(c.name for c in view.columns)))
    order = sql.columns((EVENT_TIMESTAMP, *view.keys))
    connection.execute(
        f"copy (select {columns} from {_with_profile(schema, view)} order by {order}) "
        f"to {sql.literal(out)} (format parquet)"
    )
    (rows,) = connection.execute("select count(*) from __snapshots").fetchone() or (0,)
    return int(rows)


def _day_number(timestamp: str) -> str:
    """SQL: days from 1970 to a timestamp."""
    return f"date_diff('day', {EPOCH}, ({timestamp})::date)"


def _overall(schema: Schema) -> str:
    """SQL: rate of each task over all impressions of the days before each day (null before the first)."""
    daily = ", ".join(_sum_and_count(schema, task) for task in schema.averaged)
    rates = ", ".join(
        f"sum({_sum(task)}) over __past / nullif(sum({_count(task)}) over __past, 0) as {_rate(task)}"
        for task in schema.averaged
    )
    return f"""
        with __daily as (select __day_number, {daily} from __events group by __day_number),
        __days as (select unnest(range(__first_day, __last_day + 1)) as __day_number from __span)
        select __days.__day_number, {rates} from __days left join __daily using (__day_number)
        window __past as (order by __days.__day_number rows between unbounded preceding and 1 preceding)"""


def _with_profile(schema: Schema, view: View) -> str:
    """SQL: the snapshots joined with the profile of their user or item, and the user's recent items."""
    user, item = sql.column(schema.user), sql.column(schema.item)
    if view.name == "item":
        return f"__snapshots left join __items using ({item})"
    if view.name == "user":
        return f"""__snapshots left join __users using ({user})
            left join ({_recent(schema, *view.columns[-2:])}) using ({user}, __day_number)"""
    return "__snapshots"


def _recent(schema: Schema, recent: Column, newest: Column) -> str:
    """SQL: per user and day of change the newest `recent.length` items engaged with before that day, newest last."""
    user, item = sql.column(schema.user), sql.column(schema.item)
    order = sql.columns((schema.timestamp, schema.event_id))
    recent_items, newest_day = sql.column(recent.name), sql.column(newest.name)
    task = engagement(schema)
    engaged = f" where {sql.column(task)} = 1" if task else ""
    return f"""
        with __engaged as (
            select {user}, {item}, __day_number, row_number() over (partition by {user} order by {order}) as __position
            from __events{engaged}),
        __until as (select {user}, __day_number, max(__position) as __newest from __engaged group by all),
        __reached as (
            select distinct __snapshots.{user}, __snapshots.__day_number, __newest, __until.__day_number as {newest_day}
            from __snapshots asof join __until
            on __snapshots.{user} = __until.{user} and __snapshots.__day_number > __until.__day_number)
        select __reached.{user}, __reached.__day_number, {newest_day},
            list(__engaged.{item} order by __position) as {recent_items}
        from __reached join __engaged
        on __reached.{user} = __engaged.{user} and __position between __newest - {recent.length} + 1 and __newest
        group by all"""


def _snapshots(schema: Schema, view: View, settings: Aggregate) -> str:
    """SQL: one row per entity and day of change, with every statistic over the days before that day."""
    keys = sql.columns(view.keys)
    sums = ", ".join(_sum_and_count(schema, task) for task in schema.averaged)
    zeros = ", ".join(f"0 as {_sum(task)}, 0 as {_count(task)}" for task in schema.averaged)
    totals = ", ".join(f"{_sum(task)}, {_count(task)}" for task in schema.averaged)
    steps = ", ".join(str(step) for step in sorted({1, *(days + 1 for days in settings.windows)}))
    statistics = ", ".join(
        f"{expression} as {sql.column(column.name)}"
        for window, days in windows(settings)
        for column, expression in zip(
            window_columns(schema, view.name, window), _expressions(schema, days, settings), strict=True
        )
    )
    known = _known(schema, view, keys)
    return f"""
        with __daily as (select {keys}, __day_number, count(*) as __impressions, {sums} from __events group by all),
        __entered as (
            select distinct {keys}, __day_number + unnest([{steps}]) as __day_number, null::timestamp as __known_at
            from __daily),
        __changes as (
            select __entered.* from __entered, __span where __day_number <= __last_day
            union all {known}),
        __marked as (
            select {keys}, __day_number, __impressions, {totals}, false as __change, null::timestamp as __known_at
            from __daily
            union all
            select {keys}, __day_number, 0, {zeros}, true, __known_at from __changes),
        __counted as (
            select __marked.*, __overall.* exclude (__day_number), {statistics}
            from __marked left join __overall using (__day_number)
            window {_frames(settings, keys)})
        select * exclude (__known_at), coalesce(
            __known_at,
            timestamp '1970-01-01' + to_days(__day_number::int) + to_minutes({settings.delay_minutes}::bigint)
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
    prior = settings.prior_impressions
    for task in schema.averaged:
        labels, observed = (f"coalesce(sum({column(task)}) over __past_{days}, 0)" for column in (_sum, _count))
        overall = f"coalesce({prior} * {_rate(task)}, {'0' if prior == 0 else 'null'})"
        yield f"(({labels} + {overall}) / nullif({observed} + {prior}, 0))::float"


def _known(schema: Schema, view: View, keys: str) -> str:
    """SQL: the row from which a user or item exists, with its profile and no past; none for pairs."""
    if len(view.keys) > 1:
        return f"select {keys}, __day_number, __known_at from __entered where false"
    table = "users" if view.name == "user" else "items"
    start = "timestamp '1970-01-01' + to_days(__first_day::int)"
    column = schema.known_at(table)
    known = f"greatest(coalesce({sql.column(column)}, {start}), {BEGINNING})" if column else start
    return f"""
        select {keys}, {_day_number(known)} as __day_number, ({known})::timestamp as __known_at
        from __{table}, __span"""


def _sum_and_count(schema: Schema, task: str) -> str:
    """SQL: sum and number of the labels; a number counts in millionths, whose sums are exact in any order."""
    label = sql.column(task)
    label = f"{label}::decimal(18, 6)" if task in schema.regressed else label
    return f"sum({label}) as {_sum(task)}, count({label}) as {_count(task)}"


def _sum(task: str) -> str:
    return sql.column(f"__sum_{task}")


def _count(task: str) -> str:
    return sql.column(f"__count_{task}")


def _rate(task: str) -> str:
    return sql.column(f"__rate_{task}")
