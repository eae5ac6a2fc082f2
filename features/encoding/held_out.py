"""Values of the training rows that the encoder would not know if it had been fitted without the rows of their day.

The encoder knows the values that are frequent in the training rows, so fewer of these rows have an unknown value than
of later rows from the same distribution. Leaving out one day estimates the share in later rows: in a short log of many
users, most of whom were seen a few times, it is far larger.
"""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from features.encoding.encoder import Encoder
from features.encoding.fitting import counted_columns
from features.encoding.window_rows import counting_engine, define_rows
from features.engine import sql
from features.engine.protocol import Engine
from features.schema import Column, Schema

FEWEST_DAYS = 3  # of the training rows; of fewer, one day is too large a part


def count_held_out(
    rows: Path, schema: Schema, encoder: Encoder, days: tuple[date, date], engine: Engine | None = None
) -> dict[str, list[int]]:
    """By column, the values [S] that the encoder knows only because of the other rows of the same day.

    A hashed value counts as unknown: it has no row of its own.

    Columns whose values are not counted by the encoder's vocabulary (histories of a column that is) are left out.

    Args:
        rows: Parquet file of the training rows.
        schema: Declaration of the data set.
        encoder: The encoder that was fitted on the rows.
        days: First and last day of the rows.
        engine: Where the statements run; None: DuckDB.
    """
    if (days[1] - days[0]).days + 1 < FEWEST_DAYS:
        return {}
    names = dict.fromkeys(column.vocabulary for column in encoder.columns if column.has_vocabulary)
    with counting_engine(engine) as opened:
        define_rows(opened, rows, schema, days[0])
        return {
            column: counts
            for name in names
            for column, counts in _of_vocabulary(opened, schema, encoder, name, counted_columns(encoder.columns, name))
        }


def _of_vocabulary(
    engine: Engine, schema: Schema, encoder: Encoder, name: str, columns: list[Column]
) -> list[tuple[str, list[int]]]:
    known = pa.table({"value": encoder.vocabularies[name].array})
    engine.table("__known_values", known.filter(pc.is_valid(known["value"])))
    counts = [[0] * len(schema.scenarios) for _ in columns]
    for column, scenario, held_out in engine.rows(_query(columns, capped=name in encoder.capped)):
        if scenario is not None:
            counts[column][scenario] = max(0, int(held_out))
    return [(column.name, own) for column, own in zip(columns, counts, strict=True)]


def _query(columns: list[Column], *, capped: bool) -> str:
    """SQL: index of the column, index of the scenario, number of values.

    A value is unknown below the number of occurrences that follows the most frequent unknown value's: the encoder's
    minimum, wherever the rows have a value just below it. Of a capped vocabulary that number falls with the rows that
    are left out, and some values become known, which are subtracted.
    """
    day_rows = ", sum(n) over (partition by __day) as of_day" if capped else ""
    least = "least_known * (1e0 - of_day::double / of_all::double)" if capped else "least_known"
    values = " union all ".join(
        f"select {index} as place, __scenario, __day, "
        f"{'unnest' if column.is_list else ''}({sql.column(column.name)}) as value from rows"
        for index, column in enumerate(columns)
    )
    return f"""
        with occurring as (
            select place, __scenario, __day, value, count(*) as n from ({values})
            where value is not null group by all),
        counted as (
            select occurring.*, sum(n) over (partition by occurring.value) as of_value,
                   sum(n) over (partition by occurring.value, __day) as of_value_and_day,
                   __known_values.value is not null as known{day_rows}
            from occurring left join __known_values on occurring.value = __known_values.value),
        least as (select 1 + coalesce(max(case when not known then of_value end), 0) as least_known, sum(n) as of_all
                  from counted),
        compared as (select counted.*, of_value - of_value_and_day < {least} as left_out from counted cross join least)
        select place, __scenario, sum(case when known then n else -n end) from compared
        where known = left_out group by place, __scenario"""
