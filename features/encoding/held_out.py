"""Values of the training rows that the encoder would not know if it had been fitted without the rows of their day.

The encoder knows the values that are frequent in the training rows, so fewer of these rows have an unknown value than
of later rows from the same distribution. Leaving out one day estimates the share in later rows: in a short log of many
users, most of whom were seen a few times, it is far larger.
"""

from datetime import date
from pathlib import Path

import pyarrow as pa

from features.encoding.encoder import Encoder
from features.encoding.fitting import counted_columns
from features.engine import sql
from features.engine.connection import connect
from features.schema import Column, Schema

FEWEST_DAYS = 3  # of the training rows; of fewer, one day is too large a part


def count_held_out(rows: Path, schema: Schema, encoder: Encoder, days: tuple[date, date]) -> dict[str, list[int]]:
    """By column, the values [S] that the encoder knows only because of the other rows of the same day.

    A hashed value counts as unknown: it has no row of its own.

    Columns whose values are not counted by the encoder's vocabulary (histories of a column that is) are left out.

    Args:
        rows: Parquet file of the training rows.
        schema: Declaration of the data set.
        encoder: The encoder that was fitted on the rows.
        days: First and last day of the rows.
    """
    if (days[1] - days[0]).days + 1 < FEWEST_DAYS:
        return {}
    names = dict.fromkeys(column.vocabulary for column in encoder.columns if column.has_vocabulary)
    return {
        column: counts
        for name in names
        for column, counts in _of_vocabulary(rows, schema, encoder, name, counted_columns(encoder.columns, name))
    }


def _of_vocabulary(
    rows: Path, schema: Schema, encoder: Encoder, name: str, columns: list[Column]
) -> list[tuple[str, list[int]]]:
    with connect(share=3 / 4) as connection:
        connection.register("known", pa.table({"__value": encoder.vocabularies[name].array}))
        result = connection.execute(_query(rows, schema, columns, capped=name in encoder.capped)).fetchall()
    counts = [[0] * len(schema.scenarios) for _ in columns]
    for column, scenario, held_out in result:
        if scenario is not None:
            counts[column][scenario] = max(0, int(held_out))
    return [(column.name, own) for column, own in zip(columns, counts, strict=True)]


def _query(rows: Path, schema: Schema, columns: list[Column], *, capped: bool) -> str:
    """SQL: index of the column, index of the scenario, number of values.

    A value is unknown below the number of occurrences that follows the most frequent unknown value's: the encoder's
    minimum, wherever the rows have a value just below it. Of a capped vocabulary that number falls with the rows that
    are left out, and some values become known, which are subtracted.
    """
    day_rows = ", sum(__rows) over (partition by __day) as __day_rows" if capped else ""
    least = "__least * (1 - __day_rows / __all)" if capped else "__least"
    scenarios = ", ".join(map(sql.literal, schema.scenarios))
    of_row = (
        f"list_position([{scenarios}], {sql.column(schema.scenario)}::varchar) - 1 as __scenario, "
        f"{sql.column(schema.timestamp)}::date as __day"
    )
    values = " union all ".join(
        f"select {index} as __column, {of_row}, "
        f"{'unnest' if column.is_list else ''}({sql.column(column.name)}) as __value from {sql.parquet(rows)}"
        for index, column in enumerate(columns)
    )
    return f"""
        with grouped as (
            select __column, __scenario, __day, __value, count(*) as __rows from ({values})
            where __value is not null group by all),
        counted as (
            select grouped.*, sum(__rows) over (partition by __value) as __all_rows,
                   sum(__rows) over (partition by __value, __day) as __rows_of_day,
                   grouped.__value in (select __value from known where __value is not null) as __known{day_rows}
            from grouped),
        least as (select 1 + coalesce(max(__all_rows) filter (not __known), 0) as __least, sum(__rows) as __all
                  from counted),
        compared as (select *, __all_rows - __rows_of_day < {least} as __left_out from counted, least)
        select __column, __scenario, sum(case when __known then __rows else -__rows end) from compared
        where __known = __left_out group by all"""
