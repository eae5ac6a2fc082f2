"""Counting of histograms by DuckDB, with fixed memory; see features/encoding/histograms.py for what is counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from common.errors import SchemaError
from common.stored_files import is_stored
from features.encoding.bins import MISSING, OTHER, UNKNOWN, Bins, Measure, fit_bins
from features.encoding.encoder import Encoder
from features.encoding.held_out import count_held_out
from features.encoding.histograms import Counts, Days, Histograms
from features.encoding.signed_log import signed_log_sql
from features.encoding.target_counts import count_targets, fit_targets
from features.engine import sql
from features.engine.connection import connect
from features.schema import Schema

DAYS = 40  # a longer window is counted by periods of several days
LARGEST = 1e12  # larger numbers are clipped in sums, so that a millionth of them still fits into 64 bits
MEMORY_SHARE = 3 / 4  # of DuckDB: the counts lie beside it
Result = dict[str, NDArray[Any]]  # columns of a query's result


def fit_reference(rows: Path, schema: Schema, encoder: Encoder) -> Histograms:
    """Bins fitted on the Parquet file `rows` (the training rows), and the histograms of these rows."""
    query = f"select *, {_day_of_impression(schema)} as __date from ({select_rows(rows, schema)})"
    with _connect(query, "training") as connection:
        bins, targets = fit_bins(connection, encoder, schema.position), fit_targets(connection, schema)
    first, last = day_span(rows, schema)
    period = -(-((last - first).days + 1) // DAYS)
    histograms = count_histograms(rows, schema, encoder, bins, targets=targets, period_days=period)
    return replace(histograms, held_out=count_held_out(rows, schema, encoder, (first, last)))


def files_of(rows: Path) -> list[Path]:
    """The file `rows`, or those that it matches as a pattern of files in one folder."""
    return [rows] if rows.exists() else sorted(rows.parent.glob(rows.name))


def select_rows(rows: Path, schema: Schema, days: Days | None = None) -> str:
    """SQL: the rows of the Parquet file(s) `rows` (a path or a pattern), all or those of some days."""
    source = sql.parquet(rows) if rows.exists() or is_stored(rows) else sql.parquet(rows.parent, rows.name)
    query = f"select * from {source}"
    if days is None:
        return query
    first, last = map(sql.literal, days)
    return f"{query} where {sql.column(schema.timestamp)}::date between {first} and {last}"


def day_span(rows: Path, schema: Schema, days: Days | None = None) -> Days:
    """First and last day of the Parquet file(s) `rows`; raises SchemaError where there are no rows."""
    day = f"{sql.column(schema.timestamp)}::date"
    with _connect(select_rows(rows, schema, days), "training") as connection:
        first, last = connection.execute(f"select min({day}), max({day}) from training").fetchone() or (None,) * 2
    if first is None:
        between = f" from {days[0]} to {days[1]}" if days else ""
        raise SchemaError(f"{rows} holds no rows{between}: there is nothing to make histograms of")
    return first, last


def count_histograms(
    rows: Path,
    schema: Schema,
    encoder: Encoder,
    bins: Sequence[Bins],
    *,
    targets: Sequence[Bins] = (),
    period_days: int = 1,
    days: Days | None = None,
) -> Histograms:
    """Histograms on frozen `bins`; each column is read once.

    Raises SchemaError where there are no rows, or a row has an undeclared scenario.

    Args:
        rows: Parquet file, or a pattern of files.
        schema: Declaration of the data set.
        encoder: The fitted encoder, whose vocabularies are the known values.
        bins: Bins to count, fitted on the training rows.
        targets: Bins of regression targets, fitted likewise.
        period_days: Days that are counted together.
        days: First and last day to count; None: all.
    """
    first, last = day_span(rows, schema, days)
    scenarios, periods = len(schema.scenarios), (last - first).days // period_days + 1
    counts, sums, power_sums, effective = {}, {}, {}, {}
    with _connect(select_rows(rows, schema, days), "raw") as connection:
        _create_rows(connection, schema, first, period_days)
        daily = _fetch(connection, _count_days(schema))
        _check_scenarios(daily, rows, schema)
        _create_bins(connection, encoder, bins)
        for one in tqdm(bins, desc="histograms", unit="column", mininterval=1):
            result = _fetch(connection, _count_numbers(one) if one.numeric else _count_categories(one))
            counts[one.name] = _by_period(result, (periods, scenarios, one.count))
            if one.numeric:
                sums[one.name] = _sums(result, "scaled", (scenarios, one.count))
                power_sums[one.name] = _power_sums(result, scenarios)
            elif counts[one.name][..., OTHER].any():
                effective[one.name] = _effective(connection, one, scenarios)
        shape = ((last - first).days + 1, scenarios)
        of_targets = count_targets(connection, targets, days=shape[0], periods=periods, scenarios=scenarios)
    return Histograms(
        first_day=first,
        period_days=period_days,
        scenarios=schema.scenarios,
        bins=tuple(bins),
        rows=_by_day(daily, "__rows", shape),
        counts=counts,
        sums=sums,
        power_sums=power_sums,
        effective=effective,
        labels={
            task: np.stack([_by_day(daily, f"__{what} {task}", shape) for what in ("observed", "positive")], axis=-1)
            for task in schema.rated
        },
        targets=of_targets,
    )


@contextmanager
def _connect(query: str, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose view `name` is the query."""
    with TemporaryDirectory() as scratch, connect(Path(scratch), share=MEMORY_SHARE) as connection:
        connection.execute(f"create view {name} as {query}")
        yield connection


def _fetch(connection: duckdb.DuckDBPyConnection, query: str) -> Result:
    """The columns of a query's result, none of them an enumeration."""
    return cast(Result, connection.execute(query).fetchnumpy())


def _create_rows(connection: duckdb.DuckDBPyConnection, schema: Schema, first: date, period_days: int) -> None:
    """Create the view `rows`: `raw` with the index of the scenario, the day and the period.

    These are computed once and kept, since every histogram reads them: 10 bytes a row.
    """
    names, scenario = ", ".join(map(sql.literal, schema.scenarios)), sql.column(schema.scenario)
    connection.execute(
        f"create temp table __groups as select (list_position([{names}], {scenario}::varchar) - 1)::smallint as "
        f"__scenario, {_day_of_impression(schema)}::integer as __date, (__date - date_diff('day', date '1970-01-01', "
        f"date '{first}'))::smallint as __day, (__day // {period_days})::smallint as __period from raw"
    )
    connection.execute("create view rows as select * from __groups positional join raw")


def _day_of_impression(schema: Schema) -> str:
    """SQL: days from 1970 to the impression."""
    return f"date_diff('day', date '1970-01-01', {sql.column(schema.timestamp)}::date)"


def _check_scenarios(daily: Result, rows: Path, schema: Schema) -> None:
    undeclared = np.ma.getmaskarray(daily["__scenario"])
    if undeclared.any():
        number = int(daily["__rows"][undeclared].sum())
        raise SchemaError(f"{rows}: {number:,} rows have a {schema.scenario} that is none of {schema.scenarios}")


def _create_bins(connection: duckdb.DuckDBPyConnection, encoder: Encoder, bins: Sequence[Bins]) -> None:
    """Create a table per categorical column: the bin of each value that the encoder knows."""
    for one in bins:
        if not one.numeric:
            known = encoder.vocabularies[one.vocabulary].array
            own = pc.index_in(known, value_set=pa.array(one.values, known.type))
            indices = pc.add(pc.fill_null(own, -1), OTHER + 1)
            connection.register("values_of_column", pa.table({"value": known, "bin": indices}))
            connection.execute(f"create table {_table_of(one)} as select * from values_of_column")


def _table_of(bins: Bins) -> str:
    """SQL: the table of the bins of a categorical column."""
    return sql.column(f"bins of {bins.name}")


def _count_numbers(bins: Bins) -> str:
    """SQL: rows by scenario, period and bin, with the sums of the scaled and the raw number in millionths.

    Equal numbers are counted first: most columns have few.
    """
    low, *inner, high = bins.edges
    steps = " ".join(f"when value < {edge!r} then {index}" for index, edge in enumerate(inner, start=2))
    clipped = (
        f"case when not isnan(value) then greatest(least(value, {LARGEST}), -{LARGEST}) end"  # least(null, 1) is 1
    )
    scaled = signed_log_sql("clipped") if bins.log else "clipped"
    known = f" where {sql.column(bins.column)} is not null" if bins.measure is Measure.POSITION else ""
    part = f"case when clipped is not null then greatest(least(clipped / {bins.unit!r}, 1e6), -1e6) end"
    return f"""
        select __scenario as scenario, __period as period, bin, sum(equal)::bigint as rows,
               sum(equal * (scaled * 1e6)::bigint) as scaled, sum(equal * (part * 1e6)::bigint) as raw,
               sum(equal * (part * part * 1e6)::bigint) as square
        from (select *, {scaled} as scaled, {part} as part from (select *, {clipped} as clipped,
                     case when value is null or isnan(value) then {MISSING} when value < {low!r} then 1
                          when value > {high!r} then {bins.count - 1} {steps} else {bins.count - 2} end as bin
              from (select __scenario, __period, {bins.number} as value, count(*)::hugeint as equal
                    from rows{known} group by all)))
        group by all"""


def _count_categories(bins: Bins) -> str:
    """SQL: values by scenario, period and bin; equal values are counted first."""
    return f"""
        select __scenario as scenario, __period as period, sum(equal)::bigint as rows,
               case when given.value is null then {MISSING} else coalesce(known.bin, {UNKNOWN}) end as bin
        from (select __scenario, __period, value, count(*) as equal from ({_values(bins)}) group by all) as given
             left join {_table_of(bins)} as known on given.value = known.value
        group by all"""


def _values(bins: Bins) -> str:
    """SQL: one row per value; an empty list is a missing value."""
    value = sql.column(bins.column)
    if bins.is_list:
        value = f"unnest(case when coalesce(len({value}), 0) = 0 then [null] else {value} end)"
    return f"select __scenario, __period, __day, {value} as value from rows"


def _effective(connection: duckdb.DuckDBPyConnection, bins: Bins, scenarios: int) -> list[float | None]:
    """exp(entropy) of the values of a day, mean over the days with values, by scenario."""
    rows = connection.execute(f"""
        with counted as (select __scenario, __day, value, count(*) as n from ({_values(bins)})
                         where value is not null group by all),
        shares as (select __scenario, __day, n / sum(n) over (partition by __scenario, __day) as p from counted),
        daily as (select __scenario, __day, exp(-sum(p * ln(p))) as effective from shares group by all)
        select __scenario, avg(effective) from daily group by all""").fetchall()
    means = dict(rows)
    return [float(f"{means[index]:.4g}") if index in means else None for index in range(scenarios)]


def _count_days(schema: Schema) -> str:
    """SQL: rows, observed and positive labels by scenario and day."""
    tasks = "".join(
        f", count({sql.column(task)}) as {sql.column(f'__observed {task}')}"
        f", coalesce(sum({sql.column(task)}), 0)::bigint as {sql.column(f'__positive {task}')}"
        for task in schema.rated
    )
    return f"select __scenario, __day, count(*) as __rows{tasks} from rows group by all"


def _by_period(result: Result, shape: tuple[int, ...]) -> Counts:
    """The counts of a result as an array [P, S, bins]."""
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (result["period"], result["scenario"], result["bin"]), result["rows"])
    return counts


def _by_day(result: Result, name: str, shape: tuple[int, ...]) -> Counts:
    """A column of a result as an array [D, S]."""
    counts = np.zeros(shape, np.int64)
    counts[result["__day"], result["__scenario"]] = result[name]
    return counts


def _sums(result: Result, name: str, shape: tuple[int, int]) -> list[list[int]]:
    """The sums of a column by scenario and bin [S, bins]."""
    total = [[0] * shape[1] for _ in range(shape[0])]
    for scenario, index, value in zip(result["scenario"], result["bin"], result[name], strict=True):
        total[scenario][index] += _integer(value)
    return total


def _power_sums(result: Result, scenarios: int) -> list[list[int]]:
    """Count, sum and sum of squares of the values that are not missing, by scenario [S, 3]."""
    total = [[0, 0, 0] for _ in range(scenarios)]
    columns = (result[name] for name in ("scenario", "bin", "rows", "raw", "square"))
    for scenario, index, rows, raw, square in zip(*columns, strict=True):
        if index != MISSING:
            total[scenario] = [
                total[scenario][0] + int(rows),
                total[scenario][1] + _integer(raw),
                total[scenario][2] + _integer(square),
            ]
    return total


def _integer(value: Any) -> int:
    """A sum as an integer; 0 where it is null."""
    return 0 if value is None or value is np.ma.masked or value != value else int(value)
