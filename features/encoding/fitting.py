"""Fitting of the encoder on the training rows, in DuckDB."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import duckdb
import pyarrow as pa

from common.errors import ParameterError
from features.encoding.encoder import Encoder
from features.encoding.signed_log import signed_log_sql
from features.encoding.target_scale import TargetScale
from features.encoding.vocabulary import Vocabulary
from features.engine import sql
from features.engine.connection import connect
from features.schema import Column, Kind, Role, Schema

NONE: Mapping[str, int] = MappingProxyType({})


def fit_encoder(
    schema: Schema,
    columns: tuple[Column, ...],
    training: Path,
    minimum_count: int,
    *,
    maximum_values: Mapping[str, int] = NONE,
    hash_buckets: Mapping[str, int] = NONE,
) -> Encoder:
    """An encoder fitted on the Parquet file `training`; memory does not grow with its rows.

    Raises ParameterError where a limit or buckets are for a vocabulary that no column has.

    Args:
        schema: Declaration of the data set.
        columns: The columns that the model sees.
        training: Parquet file of the training rows.
        minimum_count: A value that occurs less often has no row of its own.
        maximum_values: By vocabulary, how many values have one at most: the most frequent; of equal ones the least.
        hash_buckets: By vocabulary, the rows that values without one of their own share by hash.
    """
    names = dict.fromkeys(column.vocabulary for column in columns if column.has_vocabulary)
    for parameter, given in (("maximum_values", maximum_values), ("hash_buckets", hash_buckets)):
        _check_names(parameter, given, names)
    with connect(threads=1) as connection:  # one thread: sums in one order
        connection.execute(f"create view training as select * from {sql.parquet(training)}")
        vocabularies, capped = {}, []
        for name in names:
            limit = maximum_values.get(name)
            values = _vocabulary(connection, counted_columns(columns, name), minimum_count, limit)
            vocabularies[name] = values if limit is None else values[:limit].sort()
            capped += [name] if limit is not None and len(values) > limit else []
        scales = {c.name: _scale(connection, c) for c in columns if c.kind is Kind.NUMERIC}
        vectors = {c.name: _vector_scale(connection, c) for c in columns if c.is_vector}
        targets = {
            c.name: _target_scale(connection, c) for c in schema.by_role(Role.LABEL) if c.name in schema.regressed
        }
    return Encoder(
        scenario=schema.scenario,
        scenarios=schema.scenarios,
        columns=columns,
        vocabularies={name: Vocabulary(values) for name, values in vocabularies.items()},
        scales=scales,
        vector_scales=vectors,
        targets=targets,
        buckets={name: buckets for name, buckets in hash_buckets.items() if buckets},
        capped=tuple(capped),
    )


def _check_names(parameter: str, given: Mapping[str, int], names: Mapping[str, None]) -> None:
    if unknown := sorted(set(given) - set(names)):
        raise ParameterError(
            f"encode.{parameter} in params.yaml names {', '.join(unknown)}, but the tables of the columns that the "
            f"model sees are {', '.join(names)}: a column has the table of its domain, or else of its own name"
        )


def counted_columns(columns: tuple[Column, ...], name: str) -> list[Column]:
    """The columns whose values the vocabulary `name` counts: the scalar ones of its domain, or else its lists."""
    members = [column for column in columns if column.vocabulary == name and column.has_vocabulary]
    return [column for column in members if not column.is_list] or members


def _vocabulary(
    connection: duckdb.DuckDBPyConnection, counted: list[Column], minimum_count: int, limit: int | None
) -> pa.Array:
    """Values that occur at least `minimum_count` times in the columns, sorted.

    With a `limit` they are sorted by frequency, and there is one more than that where there are more.
    """
    parts = (f"select {'unnest' if c.is_list else ''}({sql.column(c.name)}) as value from training" for c in counted)
    order = "value" if limit is None else f"count(*) desc, value limit {limit + 1}"
    rows = connection.execute(
        f"select value from ({' union all '.join(parts)}) where value is not null "
        f"group by value having count(*) >= {minimum_count} order by {order}"
    ).to_arrow_table()
    return pa.concat_arrays(rows["value"].chunks) if rows.num_rows else pa.array([])


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
