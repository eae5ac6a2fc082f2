"""Counting of histograms by portable statements; see features/encoding/histograms.py for what is counted."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from common import stored_files
from common.errors import SchemaError
from features.encoding.bins import MISSING, OTHER, UNKNOWN, Bins, Measure, fit_bins
from features.encoding.encoder import Encoder
from features.encoding.held_out import count_held_out
from features.encoding.histograms import Counts, Days, Histograms
from features.encoding.signed_log import signed_log_sql
from features.encoding.target_counts import count_targets, fit_targets
from features.encoding.window_rows import counting_engine, day_of_impression, day_span, define_rows, read_window
from features.engine import sql
from features.engine.protocol import Engine, Row
from features.schema import Schema

DAYS = 40  # a longer window is counted by periods of several days
LARGEST = 1e12  # larger numbers are clipped in sums, so that a millionth of them still fits into 64 bits
NAN = "'nan'::double"  # equal to itself; isnan(null) is false on Spark


def fit_reference(rows: Path, schema: Schema, encoder: Encoder, engine: Engine | None = None) -> Histograms:
    """Bins fitted on the Parquet file `rows` (the training rows), and the histograms of these rows."""
    with counting_engine(engine) as opened:
        read_window(opened, "__training", rows, schema)
        opened.define("training", f"select *, {day_of_impression(schema)} as __date from __training")
        present = set(stored_files.read_schema(rows).names)
        bins, targets = fit_bins(opened, encoder, present, schema.position), fit_targets(opened, schema)
        first, last = day_span(rows, schema, engine=opened)
        period = -(-((last - first).days + 1) // DAYS)
        histograms = count_histograms(rows, schema, encoder, bins, targets=targets, period_days=period, engine=opened)
        return replace(histograms, held_out=count_held_out(rows, schema, encoder, (first, last), opened))


def count_histograms(
    rows: Path,
    schema: Schema,
    encoder: Encoder,
    bins: Sequence[Bins],
    *,
    targets: Sequence[Bins] = (),
    period_days: int = 1,
    days: Days | None = None,
    engine: Engine | None = None,
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
        engine: Where the statements run; None: DuckDB.
    """
    with counting_engine(engine) as opened:
        first, last = day_span(rows, schema, days, opened)
        scenarios, periods = len(schema.scenarios), (last - first).days // period_days + 1
        counts, sums, power_sums, effective = {}, {}, {}, {}
        define_rows(opened, rows, schema, first, period_days=period_days, days=days)
        daily = opened.rows(_count_days(schema))
        _check_scenarios(daily, rows, schema)
        for one in tqdm(bins, desc="histograms", unit="column", mininterval=1):
            if not one.numeric:
                opened.table("__bins_of_values", _bins_of_values(encoder, one))
            result = opened.rows(_count_numbers(one) if one.numeric else _count_categories(one))
            counts[one.name] = _by_period(result, (periods, scenarios, one.count))
            if one.numeric:
                sums[one.name] = _sums(result, (scenarios, one.count))
                power_sums[one.name] = _power_sums(result, scenarios)
            elif counts[one.name][..., OTHER].any():
                effective[one.name] = _effective(opened, one, scenarios)
        shape = ((last - first).days + 1, scenarios)
        of_targets = count_targets(opened, targets, days=shape[0], periods=periods, scenarios=scenarios)
    return Histograms(
        first_day=first,
        period_days=period_days,
        scenarios=schema.scenarios,
        bins=tuple(bins),
        rows=_by_day(daily, 2, shape),
        counts=counts,
        sums=sums,
        power_sums=power_sums,
        effective=effective,
        labels={
            task: np.stack([_by_day(daily, 3 + 2 * index + part, shape) for part in range(2)], axis=-1)
            for index, task in enumerate(schema.rated)
        },
        targets=of_targets,
    )


def _check_scenarios(daily: list[Row], rows: Path, schema: Schema) -> None:
    if number := sum(count for scenario, _, count, *_ in daily if scenario is None):
        raise SchemaError(f"{rows}: {number:,} rows have a {schema.scenario} that is none of {schema.scenarios}")


def _bins_of_values(encoder: Encoder, bins: Bins) -> pa.Table:
    """The bin of each value of a categorical column that the encoder knows."""
    known = encoder.vocabularies[bins.vocabulary].array
    own = pc.index_in(known, value_set=pa.array(bins.values, known.type))
    return pa.table({"value": known, "bin": pc.add(pc.fill_null(own, -1), OTHER + 1)})


def _count_numbers(bins: Bins) -> str:
    """SQL: scenario, period, bin, rows, and the sums of the scaled and the raw number and its square in millionths.

    Equal numbers are counted first: most columns have few.
    """
    low, *inner, high = sql.by_decimals(bins.edges)
    steps = " ".join(f"when value < {edge} then {index}" for index, edge in enumerate(inner, start=2))
    most, (unit,) = sql.number(LARGEST), sql.by_decimals([bins.unit])
    clipped = f"case when value <> {NAN} then greatest(least(value, {most}), -{most}) end"  # least(null, 1) is 1
    scaled = signed_log_sql("clipped") if bins.log else "clipped"
    known = f" where {sql.column(bins.column)} is not null" if bins.measure is Measure.POSITION else ""
    part = f"case when clipped is not null then greatest(least(clipped / {unit}, 1e6), -1e6) end"
    sums = ", ".join(map(_in_millionths, ("scaled", "part", "part * part")))
    return f"""
        select __scenario, __period, bin, sum(equal), {sums}
        from (select *, {scaled} as scaled, {part} as part from (select *, {clipped} as clipped,
                     case when value is null or value = {NAN} then {MISSING} when value < {low} then 1
                          when value > {high} then {bins.count - 1} {steps} else {bins.count - 2} end as bin
              from (select __scenario, __period, {bins.number} as value, count(*) as equal
                    from rows{known} group by all)))
        group by __scenario, __period, bin"""


def _in_millionths(number: str) -> str:
    """SQL: the sum of a number over all `equal` rows, each rounded: of integers, so that it has no order."""
    return f"sum(equal::decimal(18, 0) * {sql.rounded(f'{number} * 1e6')}::decimal(19, 0))"


def _count_categories(bins: Bins) -> str:
    """SQL: scenario, period, bin, values; equal values are counted first."""
    return f"""
        select __scenario, __period,
               case when given.value is null then {MISSING} else coalesce(known.bin, {UNKNOWN}) end as bin, sum(equal)
        from (select __scenario, __period, value, count(*) as equal from ({_values(bins)}) group by all) as given
             left join __bins_of_values as known on given.value = known.value
        group by all"""


def _values(bins: Bins) -> str:
    """SQL: one row per value; an empty list is a missing value."""
    value = sql.column(bins.column)
    if bins.is_list:
        value = f"unnest(case when coalesce(array_length({value}), 0) = 0 then [null] else {value} end)"
    return f"select __scenario, __period, __day, {value} as value from rows"


def _effective(engine: Engine, bins: Bins, scenarios: int) -> list[float | None]:
    """exp(entropy) of the values of a day, mean over the days with values, by scenario."""
    rows = engine.rows(f"""
        with counted as (select __scenario, __day, value, count(*) as n from ({_values(bins)})
                         where value is not null group by all),
        shares as (select __scenario, __day,
                          n::double / (sum(n) over (partition by __scenario, __day))::double as p from counted),
        daily as (select __scenario, __day, exp(-sum(p * ln(p))) as effective from shares group by all)
        select __scenario, avg(effective) from daily group by all""")
    means = {scenario: float(mean) for scenario, mean in rows}
    return [float(f"{means[index]:.4g}") if index in means else None for index in range(scenarios)]


def _count_days(schema: Schema) -> str:
    """SQL: scenario, day, rows, then observed and positive labels of each task."""
    tasks = "".join(
        f", count({sql.column(task)}), coalesce(sum({sql.column(task)}), 0)::bigint" for task in schema.rated
    )
    return f"select __scenario, __day, count(*){tasks} from rows group by __scenario, __day"


def _by_period(result: Iterable[Row], shape: tuple[int, ...]) -> Counts:
    """The counts of a result as an array [P, S, bins]."""
    counts = np.zeros(shape, np.int64)
    for scenario, period, index, rows, *_ in result:
        counts[period, scenario, index] += rows
    return counts


def _by_day(result: Iterable[Row], column: int, shape: tuple[int, ...]) -> Counts:
    """A column of a result as an array [D, S]."""
    counts = np.zeros(shape, np.int64)
    for row in result:
        counts[row[1], row[0]] = row[column]
    return counts


def _sums(result: Iterable[Row], shape: tuple[int, int]) -> list[list[int]]:
    """The sums of the scaled numbers by scenario and bin [S, bins]."""
    total = [[0] * shape[1] for _ in range(shape[0])]
    for scenario, _, index, _, scaled, *_ in result:
        total[scenario][index] += int(scaled or 0)
    return total


def _power_sums(result: Iterable[Row], scenarios: int) -> list[list[int]]:
    """Count, sum and sum of squares of the values that are not missing, by scenario [S, 3]."""
    total = [[0, 0, 0] for _ in range(scenarios)]
    for scenario, _, index, *rows_and_sums in result:
        if index != MISSING:
            rows, _, raw, square = rows_and_sums
            total[scenario] = [a + int(b or 0) for a, b in zip(total[scenario], (rows, raw, square), strict=True)]
    return total
