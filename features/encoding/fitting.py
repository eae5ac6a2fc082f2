"""Fitting of the encoder on the training rows, by portable statements."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from common.errors import ParameterError
from features.encoding.encoder import Encoder
from features.encoding.signed_log import signed_log_sql
from features.encoding.target_scale import TargetScale
from features.encoding.vocabulary import Vocabulary
from features.engine import sql
from features.engine.connection import connect
from features.engine.engines import DuckDBEngine
from features.engine.protocol import Engine
from features.schema import Column, Kind, Role, Schema

STATEMENT_COLUMNS = 100  # whose scales are one statement
NONE: Mapping[str, int] = MappingProxyType({})


def fit_encoder(
    schema: Schema,
    columns: tuple[Column, ...],
    training: Path,
    minimum_count: int,
    *,
    maximum_values: Mapping[str, int] = NONE,
    hash_buckets: Mapping[str, int] = NONE,
    engine: Engine | None = None,
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
        engine: Where the statements run; None: DuckDB in one thread, so that sums have one order.
    """
    names = dict.fromkeys(column.vocabulary for column in columns if column.has_vocabulary)
    for parameter, given in (("maximum_values", maximum_values), ("hash_buckets", hash_buckets)):
        _check_names(parameter, given, names)
    labels = [c for c in schema.by_role(Role.LABEL) if c.name in schema.regressed]
    with _one_thread() if engine is None else nullcontext(engine) as opened:
        opened.read("training", training)
        vocabularies, capped = {}, []
        for name in names:
            limit = maximum_values.get(name)
            values = _vocabulary(opened, counted_columns(columns, name), minimum_count, limit)
            vocabularies[name] = values if limit is None else values[:limit].sort()
            capped += [name] if limit is not None and len(values) > limit else []
        scales = _scales(opened, [c for c in columns if c.kind is Kind.NUMERIC])
        vectors = {c.name: _vector_scale(opened, c) for c in columns if c.is_vector}
        of_labels = _scales(opened, labels)
    targets = {label.name: _target_scale(label, *of_labels[label.name]) for label in labels}
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


@contextmanager
def _one_thread() -> Iterator[Engine]:
    with connect(threads=1) as connection:
        yield DuckDBEngine(connection)


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


def _vocabulary(engine: Engine, counted: list[Column], minimum_count: int, limit: int | None) -> pa.Array:
    """Values that occur at least `minimum_count` times in the columns, sorted.

    With a `limit` they are sorted by frequency, and there is one more than that where there are more.
    """
    parts = (f"select {'unnest' if c.is_list else ''}({sql.column(c.name)}) as value from training" for c in counted)
    order = "value" if limit is None else f"__rows desc, value limit {limit + 1}"
    batches = engine.batches(
        f"select value from (select value, count(*) as __rows from ({' union all '.join(parts)}) "
        f"where value is not null group by value) where __rows >= {minimum_count} order by {order}"
    )
    values = [batch.column(0) for batch in batches if len(batch)]
    return pa.concat_arrays(values) if values else pa.array([])


def _target_scale(label: Column, mean: float, deviation: float) -> TargetScale:
    """The scale of a regression target; its floor is the declared minimum, where training labels lie above it."""
    floor = label.minimum if label.minimum is not None and mean > label.minimum else None
    return TargetScale(mean, deviation, floor)


def _scales(engine: Engine, columns: list[Column]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the finite training values; (0, 1) where there is nothing to measure."""
    scales: dict[str, tuple[float, float]] = {}
    for start in range(0, len(columns), STATEMENT_COLUMNS):
        part = columns[start : start + STATEMENT_COLUMNS]
        values = [_finite(column) for column in part]
        statistics = ", ".join(f"avg({value}), stddev_pop({value})" for value in values)
        ((*numbers,),) = engine.rows(f"select {statistics} from training")
        pairs = zip(numbers[::2], numbers[1::2], strict=True)
        scales |= {
            column.name: (mean or 0.0, deviation or 1.0) for column, (mean, deviation) in zip(part, pairs, strict=True)
        }
    return scales


def _finite(column: Column) -> str:
    """SQL: the number that is scaled, null where it is not finite."""
    value = f"{sql.column(column.name)}::double"
    scaled = signed_log_sql(value) if column.log else value
    return f"case when {_is_finite(value)} then {scaled} end"


def _vector_scale(engine: Engine, column: Column) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the finite training values of each dimension; (0, 1) where there are none."""
    vector = sql.column(column.name)
    number = f"lambda __d: struct_pack(__dimension := __d, __value := list_extract({vector}, __d)::double)"
    numbers = f"unnest(list_transform(generate_series(1, {column.length}), {number})) as __number"
    rows = engine.rows(
        "select __number.__dimension, avg(__number.__value), stddev_pop(__number.__value) "
        f"from (select {numbers} from training where {vector} is not null) "
        f"where {_is_finite('__number.__value')} group by __number.__dimension"
    )
    scales = {dimension: (mean, deviation) for dimension, mean, deviation in rows}
    fitted = [scales.get(dimension, (0.0, 1.0)) for dimension in range(1, (column.length or 0) + 1)]
    return [mean for mean, _ in fitted], [deviation or 1.0 for _, deviation in fitted]


def _is_finite(value: str) -> str:
    """SQL: whether a number is neither missing, nor NaN, which is larger than all numbers, nor infinite."""
    return f"abs({value}) < 'infinity'::double"
