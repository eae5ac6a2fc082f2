"""Fitting of the encoder on the training rows, in DuckDB."""

from pathlib import Path
from typing import Any

import duckdb

from features.encoding.encoder import Encoder
from features.encoding.signed_log import signed_log_sql
from features.encoding.target_scale import TargetScale
from features.engine import sql
from features.engine.connection import connect
from features.schema import Column, Kind, Role, Schema


def fit_encoder(schema: Schema, columns: tuple[Column, ...], training: Path, minimum_count: int) -> Encoder:
    """An encoder fitted on the Parquet file `training`; memory does not grow with its rows."""
    with connect(threads=1) as connection:  # one thread: sums in one order
        connection.execute(f"create view training as select * from {sql.parquet(training)}")
        names = dict.fromkeys(column.vocabulary for column in columns if column.has_vocabulary)
        vocabularies = {name: _vocabulary(connection, name, columns, minimum_count) for name in names}
        scales = {c.name: _scale(connection, c) for c in columns if c.kind is Kind.NUMERIC}
        vectors = {c.name: _vector_scale(connection, c) for c in columns if c.is_vector}
        targets = {
            c.name: _target_scale(connection, c) for c in schema.by_role(Role.LABEL) if c.name in schema.regressed
        }
    return Encoder(schema.scenario, schema.scenarios, columns, vocabularies, scales, vectors, targets)


def counted_columns(columns: tuple[Column, ...], name: str) -> list[Column]:
    """The columns whose values the vocabulary `name` counts: the scalar ones of its domain, or else its lists."""
    members = [column for column in columns if column.vocabulary == name and column.has_vocabulary]
    return [column for column in members if not column.is_list] or members


def _vocabulary(
    connection: duckdb.DuckDBPyConnection, name: str, columns: tuple[Column, ...], minimum_count: int
) -> list[Any]:
    """Values that occur at least `minimum_count` times, sorted; counted in the domain's scalar columns if any."""
    counted = counted_columns(columns, name)
    parts = (f"select {'unnest' if c.is_list else ''}({sql.column(c.name)}) as value from training" for c in counted)
    rows = connection.execute(
        f"select value from ({' union all '.join(parts)}) where value is not null "
        f"group by value having count(*) >= {minimum_count} order by value"
    ).fetchall()
    return [value for (value,) in rows]


def _target_scale(connection: duckdb.DuckDBPyConnection, label: Column) -> TargetScale:
    """The scale of a regression target; its floor is the declared minimum, where training labels lie above it."""
    mean, deviation = _scale(connection, label)
    floor = label.minimum if label.minimum is not None and mean > label.minimum else None
    return TargetScale(mean, deviation, floor)


def _scale(connection: duckdb.DuckDBPyConnection, column: Column) -> tuple[float, float]:
    """Mean and standard deviation of the finite training values; (0, 1) where there is nothing to measure."""
    value = f"{sql.column(column.name)}::double"
    finite = f"from training where isfinite({value})"
    value = signed_log_sql(value) if column.log else value
    row = connection.execute(f"select avg({value}), stddev_pop({value}) {finite}").fetchone()
    mean, deviation = row or (None, None)
    return (mean or 0.0, deviation or 1.0)


def _vector_scale(connection: duckdb.DuckDBPyConnection, column: Column) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the finite training values of each dimension; (0, 1) where there are none."""
    vector = sql.column(column.name)
    rows = connection.execute(
        f"select dimension, avg(value), stddev_pop(value) from (select unnest({vector})::double as value, "
        f"generate_subscripts({vector}, 1) as dimension from training) where isfinite(value) group by dimension"
    ).fetchall()
    scales = {dimension: (mean, deviation) for dimension, mean, deviation in rows}
    fitted = [scales.get(dimension, (0.0, 1.0)) for dimension in range(1, (column.length or 0) + 1)]
    return [mean for mean, _ in fitted], [deviation or 1.0 for _, deviation in fitted]
