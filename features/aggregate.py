"""Stage: daily statistics and recent items of users and items, from the past only.

A snapshot of day D holds what happened on the days before D and is known `delay_minutes` after its midnight
(UTC): that moment is its `event_timestamp`. Nothing of day D or later enters it. Snapshots are written only
for the days on which an entity's values change (a day of events enters or leaves a window), so a join as of
any moment finds the newest values and a quiet entity costs nothing. Before its first snapshot an entity has one
row with its profile, valid from the moment it is known.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb

from common import params, stage
from common.params import Aggregate
from features.schema import EVENT_TIMESTAMP, Column, DType, Kind, Role, Schema, View, newest_day, read_schema, to_json

ALL = 100_000  # days: a window that holds every log's whole past


def aggregate(*, schema: Path, validated: Path, out: Path) -> None:
    """Write `<view>.parquet` and views.json under `out` from the events, users and items under `validated`."""
    declared, settings = read_schema(schema), params.load().aggregate
    out.mkdir(parents=True)
    views = feature_views(declared, settings)
    (out / "views.json").write_text(to_json(views))
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(out / "spill")}) as connection:
        _prepare(connection, declared, validated)
        for view in views:
            rows = _write(connection, declared, view, settings, out)
            print(f"{view.name}: {rows:,} snapshots of {len(view.columns)} features", flush=True)


def feature_views(schema: Schema, settings: Aggregate) -> tuple[View, ...]:
    """The views of users, items and users in a scenario, with their columns: profile, statistics, recent items."""
    recent = Column(
        name="user_recent_items",
        role=Role.FEATURE,
        dtype=_list_of(schema),
        kind=Kind.SEQUENCE,
        nullable=True,
        domain=schema.item,
        length=settings.recent_items,
        desc=f"items of the newest impressions{_engaged(schema, ' with {} = 1')}, newest last",
    )
    newest = Column(
        name=newest_day(recent.name),
        role=Role.NEWEST_DAY,
        dtype=DType.INT64,
        nullable=True,
        desc=f"day of the newest of {recent.name}",
    )
    user, item = schema.user, schema.item
    return (
        View(
            name="user",
            keys=(user,),
            columns=(*_nullable(schema.profile("users")), *_statistics(schema, "user", settings), recent, newest),
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


def _list_of(schema: Schema) -> DType:
    item = next(column for column in schema.items if column.role is Role.ITEM)
    return DType.INT64_LIST if item.dtype is DType.INT64 else DType.STRING_LIST


def _nullable(columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """A profile is null as of a moment at which its owner was not known."""
    return tuple(Column(**{**vars(column), "nullable": True}) for column in columns)


def _statistics(schema: Schema, prefix: str, settings: Aggregate) -> tuple[Column, ...]:
    return tuple(column for window, _ in _windows(settings) for column in _window(schema, prefix, window))


def _windows(settings: Aggregate) -> Iterator[tuple[str, int]]:
    yield from ((f"{days}d", days) for days in settings.windows)
    yield "all", ALL


def _window(schema: Schema, prefix: str, window: str) -> Iterator[Column]:
    number = {"role": Role.FEATURE, "kind": Kind.NUMERIC, "nullable": True}
    yield Column(name=f"{prefix}_impressions_{window}", dtype=DType.INT64, log=True, **number)  # type: ignore[arg-type]
    for task in schema.rated:
        yield Column(name=f"{prefix}_{task}_rate_{window}", dtype=DType.FLOAT32, **number)  # type: ignore[arg-type]


def _prepare(connection: duckdb.DuckDBPyConnection, schema: Schema, validated: Path) -> None:
    """Views `events` (with `day_number`), `users`, `items`, and the running overall rate of each task by day."""
    events = (validated / "events" / "*" / "*.parquet").as_posix()
    connection.execute(
        f"create view events as select *, date_diff('day', date '1970-01-01', {schema.timestamp}::date) as day_number "
        f"from read_parquet('{events}', hive_partitioning = false)"
    )
    for table in ("users", "items"):
        path = (validated / f"{table}.parquet").as_posix()
        connection.execute(f"create view {table} as select * from read_parquet('{path}')")
    connection.execute(
        "create table span as select min(day_number) as first_day, max(day_number) + 1 as last_day from events"
    )
    connection.execute(f"create table overall as {_overall(schema)}")


def _overall(schema: Schema) -> str:
    """Rate of each task over all impressions of the days before each day (null before the first)."""
    daily = ", ".join(f'sum("{t}") as "sum_{t}", count("{t}") as "count_{t}"' for t in schema.rated)
    rates = ", ".join(
        f'sum("sum_{t}") over past / nullif(sum("count_{t}") over past, 0) as "rate_{t}"' for t in schema.rated
    )
    return f"""
        with daily as (select day_number, {daily} from events group by day_number),
        days as (select unnest(range(first_day, last_day + 1)) as day_number from span)
        select days.day_number, {rates} from days left join daily using (day_number)
        window past as (order by days.day_number rows between unbounded preceding and 1 preceding)"""


def _write(connection: duckdb.DuckDBPyConnection, schema: Schema, view: View, settings: Aggregate, out: Path) -> int:
    connection.execute(f"create or replace temp table snapshots as {_snapshots(schema, view, settings)}")
    columns = ", ".join(f'"{name}"' for name in (*view.keys, EVENT_TIMESTAMP, *(c.name for c in view.columns)))
    order = ", ".join(f'"{key}"' for key in (EVENT_TIMESTAMP, *view.keys))
    target = (out / f"{view.name}.parquet").as_posix()
    connection.execute(
        f"copy (select {columns} from {_with_profile(schema, view)} order by {order}) to '{target}' (format parquet)"
    )
    (rows,) = connection.execute("select count(*) from snapshots").fetchone() or (0,)
    return int(rows)


def _with_profile(schema: Schema, view: View) -> str:
    """SQL: the snapshots beside the profile of their user or item, and the user's recent items."""
    if view.name == "item":
        return f'snapshots left join items using ("{schema.item}")'
    if view.name == "user":
        return f"""snapshots left join users using ("{schema.user}")
            left join ({_recent(schema, *view.columns[-2:])}) using ("{schema.user}", day_number)"""
    return "snapshots"


def _recent(schema: Schema, recent: Column, newest: Column) -> str:
    """SQL: per user and day of change the newest `recent.length` items engaged with before that day, newest last."""
    user, item = schema.user, schema.item
    return f"""
        with engaged as (
            select "{user}", "{item}", day_number,
                row_number() over (partition by "{user}" order by "{schema.timestamp}", "{schema.event_id}") as position
            from events{_engaged(schema, ' where "{}" = 1')}),
        until as (select "{user}", day_number, max(position) as newest from engaged group by all),
        reached as (
            select distinct snapshots."{user}", snapshots.day_number, newest, until.day_number as "{newest.name}"
            from snapshots asof join until
            on snapshots."{user}" = until."{user}" and snapshots.day_number > until.day_number)
        select reached."{user}", reached.day_number, "{newest.name}",
            list(engaged."{item}" order by position) as "{recent.name}"
        from reached join engaged
        on reached."{user}" = engaged."{user}" and position between newest - {recent.length} + 1 and newest
        group by all"""


def _engaged(schema: Schema, text: str) -> str:
    """`text` about the first task that says yes or no; nothing where there is none: then every impression counts."""
    return text.format(schema.rated[0]) if schema.rated else ""


def _snapshots(schema: Schema, view: View, settings: Aggregate) -> str:
    """SQL: one row per entity and day of change, with every statistic over the days before that day."""
    keys = ", ".join(f'"{key}"' for key in view.keys)
    sums = ", ".join(f'sum("{t}") as "sum_{t}", count("{t}") as "count_{t}"' for t in schema.rated)
    zeros = ", ".join(f'0 as "sum_{t}", 0 as "count_{t}"' for t in schema.rated)
    steps = ", ".join(str(step) for step in sorted({1, *(days + 1 for days in settings.windows)}))
    statistics = ", ".join(
        f'{expression} as "{column.name}"'
        for window, days in _windows(settings)
        for column, expression in zip(
            _window(schema, view.name, window), _expressions(schema, days, settings), strict=True
        )
    )
    known = _known(schema, view, keys)
    return f"""
        with daily as (select {keys}, day_number, count(*) as impressions, {sums} from events group by all),
        entered as (
            select distinct {keys}, day_number + unnest([{steps}]) as day_number, null::timestamp as known_at
            from daily),
        changes as (
            select entered.* from entered, span where day_number <= last_day
            union all {known}),
        marked as (
            select {keys}, day_number, impressions, {", ".join(f'"sum_{t}", "count_{t}"' for t in schema.rated)},
                false as change, null::timestamp as known_at from daily
            union all
            select {keys}, day_number, 0, {zeros}, true, known_at from changes),
        counted as (
            select marked.*, overall.* exclude (day_number), {statistics}
            from marked left join overall using (day_number)
            window {_frames(settings, keys)})
        select * exclude (known_at), coalesce(
            known_at, timestamp '1970-01-01' + to_days(day_number::int) + to_minutes({settings.delay_minutes}::bigint)
        )::timestamp as {EVENT_TIMESTAMP}
        from counted where change"""


def _frames(settings: Aggregate, keys: str) -> str:
    return ", ".join(
        f"past_{days} as (partition by {keys} order by day_number range between {days} preceding and 1 preceding)"
        for _, days in _windows(settings)
    )


def _expressions(schema: Schema, days: int, settings: Aggregate) -> Iterator[str]:
    """Impressions, then (labels + prior * overall rate) / (observed + prior) per task (additive smoothing)."""
    yield f"coalesce(sum(impressions) over past_{days}, 0)::bigint"
    prior = settings.prior_impressions
    for task in schema.rated:
        labels, observed = (f'coalesce(sum("{part}_{task}") over past_{days}, 0)' for part in ("sum", "count"))
        overall = f'coalesce({prior} * "rate_{task}", {"0" if prior == 0 else "null"})'
        yield f"(({labels} + {overall}) / nullif({observed} + {prior}, 0))::float"


def _known(schema: Schema, view: View, keys: str) -> str:
    """SQL: the row from which a user or item exists, with its profile and no past; none for pairs."""
    if len(view.keys) > 1:
        return f"select {keys}, day_number, known_at from entered where false"
    table = "users" if view.name == "user" else "items"
    start = "timestamp '1970-01-01' + to_days(first_day::int)"
    column = schema.known_at(table)
    known = f"coalesce({column}, {start})" if column else start
    return (
        f"select {keys}, date_diff('day', date '1970-01-01', ({known})::date) as day_number, "
        f"({known})::timestamp as known_at from {table}, span"
    )


if __name__ == "__main__":
    stage.run(aggregate)
