"""What a row does not say about itself: how often its id occurs, whether its user is known, and since when."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from common import stage
from features.quality import expectations, partitions
from features.schema import Column, DType, Schema


@dataclass(kw_only=True)
class Known:
    """Facts from beyond the batch.

    `repeated` holds the ids of the table that occur more than once and how often; `accepted` the ids of the
    accepted users and items, and with them the moment from which they are known where the schema has one.
    """

    repeated: pa.Table
    accepted: dict[str, pa.Table] = field(default_factory=dict)


def repeated(paths: list[Path], key: str) -> pa.Table:
    """Ids that occur in more than one row: columns `id` and `copies`, usually without any row."""
    return _query(
        f'SELECT "{key}" AS id, count(*) AS copies FROM read_parquet($paths, hive_partitioning => false) '
        f'WHERE "{key}" IS NOT NULL GROUP BY 1 HAVING count(*) > 1 ORDER BY 1',
        paths,
    )


def distinct(paths: list[Path], column: str) -> pa.ChunkedArray:
    """The values that occur in a column, each once and in order."""
    text = f'SELECT DISTINCT "{column}" FROM read_parquet($paths, hive_partitioning => false) ORDER BY 1'
    return _query(text, paths)[0]


def _query(text: str, paths: list[Path]) -> pa.Table:
    settings: dict[str, Any] = {"memory_limit": "2GB", "threads": stage.threads()}
    with partitions.reading(paths), duckdb.connect(config=settings) as connection:
        plain = [str(path) for path in paths]
        return connection.execute(text, {"paths": plain}).to_arrow_table()


def add(schema: Schema, table: str, batch: pa.Table, beyond: Known) -> pa.Table:
    """`batch` and the columns that the expectations of `table` need on top; row order is kept."""
    key = expectations.identifier(schema, table)
    added = {expectations.copies(key): _copies(batch[key], beyond.repeated)}
    for column in schema.tables[table]:
        if column.is_list:
            added |= _of_list(column, batch[column.name])
        if column.dtype is DType.TIMESTAMP:
            added |= _of_moment(column, batch[column.name])
    if table == "events":
        added[expectations.EVENT_DAY] = pc.floor_temporal(batch[schema.timestamp], unit="day")
        for other, name in (("users", schema.user), ("items", schema.item)):
            added |= _of_entity(batch[name], other, beyond.accepted[other])
    for name, values in added.items():
        batch = batch.append_column(name, values)
    return batch


def frame(schema: Schema, table: str, rows: pa.Table) -> pd.DataFrame:
    """Rows as Great Expectations reads them: a list stands as its length, for no expectation reads its elements."""
    for column in schema.tables[table]:
        if column.is_list:
            place = rows.column_names.index(column.name)
            rows = rows.set_column(place, column.name, pc.list_value_length(rows[column.name]))
    return rows.to_pandas()


def _copies(ids: pa.ChunkedArray, repeats: pa.Table) -> pa.ChunkedArray:
    place = pc.index_in(ids, value_set=repeats["id"].cast(ids.type))
    counts = pc.fill_null(pc.take(repeats["copies"], place), 1)
    return pc.if_else(pc.is_valid(ids), counts, pa.scalar(None, counts.type))


def _of_entity(ids: pa.ChunkedArray, table: str, accepted: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Whether the id is accepted (null where it is missing), and the moment from which it is known."""
    place = pc.index_in(ids, value_set=accepted[0])
    found = pc.if_else(pc.is_valid(ids), pc.cast(pc.is_valid(place), pa.int8()), pa.scalar(None, pa.int8()))
    moments = {name: pc.take(accepted[name], place) for name in accepted.column_names[1:]}
    return {expectations.known(table): found, **moments}


def _of_moment(column: Column, values: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Whether the moments lie within the bounds of their column; null where they are missing."""
    low, high = expectations.moments(column)
    inside = pc.is_valid(values) if low is None else pc.greater_equal(values, pa.scalar(low, values.type))
    inside = inside if high is None else pc.and_(inside, pc.less_equal(values, pa.scalar(high, values.type)))
    return {expectations.within(column.name): inside.cast(pa.int8())}


def _of_list(column: Column, lists: pa.ChunkedArray) -> dict[str, pa.Array]:
    """Elements that are missing and that are outside the declared values, counted by row."""
    elements = pc.list_flatten(lists)
    added = {expectations.gaps(column.name): _counted(lists, pc.is_null(elements))}
    if column.values is not None:  # noqa: PD011
        allowed = pa.array(column.values, elements.type)
        foreign = pc.and_(pc.is_valid(elements), pc.invert(pc.is_in(elements, value_set=allowed)))
        added[expectations.strangers(column.name)] = _counted(lists, foreign)
    return added


def _counted(lists: pa.ChunkedArray, faulty: pa.ChunkedArray) -> pa.Array:
    """How many elements of each list are faulty; `faulty` is one boolean per element."""
    parents = pc.filter(pc.list_parent_indices(lists), faulty).to_numpy()
    return pa.array(np.bincount(parents, minlength=len(lists)))
