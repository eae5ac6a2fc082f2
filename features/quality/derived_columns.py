"""Columns that the rules need and no row has: how often its id occurs, whether and since when its user is known, ...

Their names begin with INNER, so that they equal no declared one; reports leave it out.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from features.engine import sql
from features.engine.connection import connect
from features.quality import partitions
from features.quality.bounds import timestamp_bounds
from features.schema import INNER, Column, DType, Schema

EVENT_DAY = INNER + "day of the event"


def copies(name: str) -> str:
    """Name of a derived column: the number of rows of the table with this id."""
    return f"{INNER}copies of {name}"


def known(table: str) -> str:
    """Name of a derived column: whether the event refers to an accepted row of `users` or `items`, 0 or 1."""
    return f"{INNER}rows of {table}"


def missing_elements(name: str) -> str:
    """Name of a derived column: the number of elements of the list that are missing."""
    return f"{INNER}missing elements of {name}"


def foreign_elements(name: str) -> str:
    """Name of a derived column: the number of elements of the list outside the declared values."""
    return f"{INNER}foreign elements of {name}"


def numbers_of(name: str) -> str:
    """Name of a derived column: how many numbers the vector has."""
    return f"{INNER}numbers of {name}"


def not_finite(name: str) -> str:
    """Name of a derived column: how many numbers of the vector are missing or not finite."""
    return f"{INNER}numbers of {name} that are missing or not finite"


def within_bounds(name: str) -> str:
    """Name of a derived column: whether the timestamp lies within its bounds, 0 or 1."""
    return f"{INNER}{name} within its bounds"


def id_column(schema: Schema, table: str) -> str:
    """Name of the column that identifies a row of `table`."""
    return {"events": schema.event_id, "users": schema.user, "items": schema.item}[table]


@dataclass(kw_only=True)
class KnownIds:
    """Ids outside the batch that the derived columns need.

    `repeated` holds the ids of the table that occur more than once and their counts; `accepted` the ids of the
    accepted users and items, with the timestamps from which they are known where the schema has one.
    """

    repeated: pa.Table
    accepted: dict[str, pa.Table] = field(default_factory=dict)


def repeated_ids(paths: list[Path], key: str) -> pa.Table:
    """Ids that occur in more than one row: columns `id` and `copies`."""
    return _query(
        f"SELECT {sql.column(key)} AS id, count(*) AS copies FROM read_parquet($paths, hive_partitioning => false) "
        f"WHERE {sql.column(key)} IS NOT NULL GROUP BY 1 HAVING count(*) > 1 ORDER BY 1",
        paths,
    )


def distinct_values(paths: list[Path], column: str) -> pa.ChunkedArray:
    """The distinct values of a column, in order."""
    query = f"SELECT DISTINCT {sql.column(column)} FROM read_parquet($paths, hive_partitioning => false) ORDER BY 1"
    return _query(query, paths)[0]


def extremes(paths: list[Path], column: str) -> pa.ChunkedArray:
    """The least and the largest value of a column of numbers, if they differ."""
    name = sql.column(column)
    query = (
        f"SELECT DISTINCT unnest([min({name}), max({name})]) FROM read_parquet($paths, hive_partitioning => false) "
        "ORDER BY 1"
    )
    return _query(query, paths)[0]


def _query(query: str, paths: list[Path]) -> pa.Table:
    with partitions.reading(paths), connect() as connection:
        return connection.execute(query, {"paths": [str(path) for path in paths]}).to_arrow_table()


def add_derived_columns(schema: Schema, table: str, batch: pa.Table, ids: KnownIds) -> pa.Table:
    """`batch` with the derived columns that the rules of `table` need; the order of the rows stays."""
    key = id_column(schema, table)
    derived = {copies(key): _copies(batch[key], ids.repeated)}
    for column in schema.tables[table]:
        if column.is_list:
            derived |= _of_list(column, batch[column.name])
        if column.is_vector:
            derived |= _of_vector(column, batch[column.name])
        if column.dtype is DType.TIMESTAMP:
            derived |= _of_timestamp(column, batch[column.name])
    if table == "events":
        derived[EVENT_DAY] = pc.floor_temporal(batch[schema.timestamp], unit="day")
        for other, name in (("users", schema.user), ("items", schema.item)):
            derived |= _of_entity(batch[name], other, ids.accepted[other])
    for name, values in derived.items():
        batch = batch.append_column(name, values)
    return batch


def to_frame(schema: Schema, table: str, rows: pa.Table) -> pd.DataFrame:
    """Rows for Great Expectations, each list replaced by its length: no rule reads the elements.

    An integer column with missing values keeps its integers: as float64 an id above 2^53 would equal its neighbour.
    """
    for column in schema.tables[table]:
        if column.is_list or column.is_vector:
            index = rows.column_names.index(column.name)
            rows = rows.set_column(index, column.name, pc.list_value_length(rows[column.name]))
    return exact_frame(rows)


def exact_frame(rows: pa.Table) -> pd.DataFrame:
    """The rows as pandas columns; integers with missing values as the nullable type Int64.

    A float32 column becomes float64, which holds the same numbers: Great Expectations compares other types one by one.
    """
    frame: pd.DataFrame = rows.to_pandas(strings_to_categorical=True)
    frame = frame.astype(dict.fromkeys(frame.select_dtypes(np.float32), np.float64))
    for column in rows.schema:
        if pa.types.is_int64(column.type) and rows[column.name].null_count:
            frame[column.name] = rows[column.name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


def _copies(ids: pa.ChunkedArray, repeated: pa.Table) -> pa.ChunkedArray:
    index = pc.index_in(ids, value_set=repeated["id"].cast(ids.type))
    counts = pc.fill_null(pc.take(repeated["copies"], index), 1)
    return pc.if_else(pc.is_valid(ids), counts, pa.scalar(None, counts.type))


def _of_entity(ids: pa.ChunkedArray, table: str, accepted: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Whether the id is accepted (null where it is missing), and the timestamp from which it is known."""
    index = pc.index_in(ids, value_set=accepted[0])
    is_known = pc.if_else(pc.is_valid(ids), pc.cast(pc.is_valid(index), pa.int8()), pa.scalar(None, pa.int8()))
    since = {name: pc.take(accepted[name], index) for name in accepted.column_names[1:]}
    return {known(table): is_known, **since}


def _of_timestamp(column: Column, values: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Whether the timestamps lie within the bounds of their column; null where they are missing."""
    low, high = timestamp_bounds(column)
    inside = pc.greater_equal(values, pa.scalar(low, values.type))
    inside = pc.and_(inside, pc.less_equal(values, pa.scalar(high, values.type)))
    return {within_bounds(column.name): inside.cast(pa.int8())}


def _of_list(column: Column, lists: pa.ChunkedArray) -> dict[str, pa.Array]:
    """The numbers of elements that are missing and that are outside the declared values, by row."""
    elements = pc.list_flatten(lists)
    derived = {missing_elements(column.name): _count_by_row(lists, pc.is_null(elements))}
    if column.values is not None:  # noqa: PD011
        allowed = pa.array(column.values, elements.type)
        foreign = pc.and_(pc.is_valid(elements), pc.invert(pc.is_in(elements, value_set=allowed)))
        derived[foreign_elements(column.name)] = _count_by_row(lists, foreign)
    return derived


def _of_vector(column: Column, vectors: pa.ChunkedArray) -> dict[str, pa.Array]:
    """The numbers of each vector, and how many of them are missing or not finite."""
    faulty = pc.invert(pc.fill_null(pc.is_finite(pc.list_flatten(vectors)), False))
    return {
        numbers_of(column.name): pc.list_value_length(vectors),
        not_finite(column.name): _count_by_row(vectors, faulty),
    }


def _count_by_row(lists: pa.ChunkedArray, faulty: pa.ChunkedArray) -> pa.Array:
    """The number of faulty elements of each list; `faulty` is one boolean per element."""
    parents = pc.filter(pc.list_parent_indices(lists), faulty).to_numpy()
    return pa.array(np.bincount(parents, minlength=len(lists)))
