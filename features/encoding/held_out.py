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
    with connect(memory_limit="1500MB") as connection:
        connection.register("known", pa.table({"__value": pa.array(encoder.vocabularies[name] or [None])}))
        result = connection.execute(_query(rows, schema, columns)).fetchall()
    counts = [[0] * len(schema.scenarios) for _ in columns]
    for column, scenario, held_out in result:
        if scenario is not None:
            counts[column][scenario] = int(held_out)
    return [(column.name, own) for column, own in zip(columns, counts, strict=True)]


def _query(rows: Path, schema: Schema, columns: list[Column]) -> str:
    """SQL: index of the column, index of the scenario, number of values.

    A value is unknown below the number of occurrences that follows the most frequent unknown value's: the encoder's
    minimum, wherever the rows have a value just below it.
    """
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
                   grouped.__value in (select __value from known where __value is not null) as __known
            from grouped),
        least as (select 1 + coalesce(max(__all_rows) filter (not __known), 0) as __least from counted)
        select __column, __scenario, sum(__rows) from counted, least
        where __known and __all_rows - __rows_of_day < __least group by all"""
