"""The encoder: the only code that turns rows into tensors, in training and in serving.

Declared (the schema) and fitted (vocabularies, means) are two things: what is fitted, on the training rows only, is
this JSON. A value seen less often than `minimum_count` in training, or never, or null, is row 0 of its table.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.errors import SchemaError
from features.schema import Column, Kind, Schema

UNKNOWN, PADDING = 0, -1
LIMIT = 8.0  # standard deviations: a scaled number is cut here, so that one wild value cannot rule a row


@dataclass(frozen=True)
class Layout:
    """The shape of encoded rows: all that a network has to know of the data."""

    table_rows: tuple[int, ...]  # rows of each embedding table, row 0 = unknown
    categorical_tables: tuple[int, ...]  # the table of each of the F categorical columns
    bag_tables: tuple[int, ...]  # the table of each list column
    bag_lengths: tuple[int, ...]  # and how many values of it are kept
    numeric: int
    scenarios: int


@dataclass(frozen=True)
class Batch:
    """Encoded rows: categorical int32 [N, F], bags int32 [N, lengths], numeric float32 [N, P], scenario int32 [N]."""

    categorical: np.ndarray
    bags: np.ndarray
    numeric: np.ndarray
    scenario: np.ndarray


@dataclass(frozen=True)
class Encoder:
    """Fitted vocabularies and scales; `columns` are the declared inputs in the order in which they are encoded.

    `tables` maps a vocabulary's name to its values: value number i is row i + 1. `scales` maps a numeric column to
    the mean and standard deviation of its training values (after log(1 + v) where declared).
    """

    scenario: str
    scenarios: tuple[str, ...]
    columns: tuple[Column, ...]
    tables: dict[str, list[Any]]
    scales: dict[str, tuple[float, float]]

    @classmethod
    def fit(cls, schema: Schema, columns: tuple[Column, ...], training: Path, minimum_count: int) -> "Encoder":
        """An encoder fitted on the Parquet file `training`, in DuckDB, so that memory does not grow with the rows."""
        with duckdb.connect(config={"threads": 1, "memory_limit": "2GB"}) as connection:  # one: sums in one order
            connection.execute(f"create view training as select * from read_parquet('{training.as_posix()}')")
            tables = {name: _vocabulary(connection, name, columns, minimum_count) for name in _tables(columns)}
            scales = {c.name: _scale(connection, c) for c in columns if c.kind is Kind.NUMERIC}
        return cls(schema.scenario, schema.scenarios, columns, tables, scales)

    @property
    def layout(self) -> Layout:
        """What a network has to know."""
        index = {name: position for position, name in enumerate(self.tables)}
        return Layout(
            table_rows=tuple(len(values) + 1 for values in self.tables.values()),
            categorical_tables=tuple(index[c.vocabulary] for c in self._of(Kind.CATEGORICAL)),
            bag_tables=tuple(index[c.vocabulary] for c in self._lists),
            bag_lengths=tuple(c.length or 0 for c in self._lists),
            numeric=sum(1 + c.nullable for c in self._of(Kind.NUMERIC)),
            scenarios=len(self.scenarios),
        )

    def encode(self, rows: pa.Table) -> Batch:
        """The tensors of `rows`, which must hold every column by name; raises SchemaError on an unknown scenario."""
        categorical = [self._lookup(c, _flat(rows, c.name)) for c in self._of(Kind.CATEGORICAL)]
        bags = [self._bag(c, _flat(rows, c.name)) for c in self._lists]
        numeric = [part for c in self._of(Kind.NUMERIC) for part in self._number(c, _flat(rows, c.name))]
        scenario = pc.index_in(_flat(rows, self.scenario), value_set=pa.array(self.scenarios))
        if scenario.null_count:
            raise SchemaError(f"{scenario.null_count} rows have a {self.scenario} that is none of {self.scenarios}")
        return Batch(
            categorical=stack_columns(categorical, rows.num_rows, np.int32),
            bags=np.concatenate([*bags, np.empty((rows.num_rows, 0), np.int32)], axis=1),
            numeric=stack_columns(numeric, rows.num_rows, np.float32),
            scenario=scenario.to_numpy(zero_copy_only=False).astype(np.int32),
        )

    def _of(self, kind: Kind) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.kind is kind)

    @cached_property
    def _lists(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_list)

    @cached_property
    def _values(self) -> dict[str, pa.Array]:
        return {name: pa.array(values) for name, values in self.tables.items()}

    def _lookup(self, column: Column, values: pa.Array) -> np.ndarray:
        """Row of each value in its table, UNKNOWN where it has none."""
        known = self._values[column.vocabulary]
        if not len(known):
            return np.zeros(len(values), np.int32)
        found = pc.index_in(values.cast(known.type), value_set=known)
        return (pc.fill_null(found, -1).to_numpy() + 1).astype(np.int32)

    def _bag(self, column: Column, lists: pa.Array) -> np.ndarray:
        """Rows of the newest (sequence) or first (set) `length` values of each list [N, length], PADDING behind."""
        length = column.length or 0
        sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        kept = np.minimum(sizes, length)
        ends = np.cumsum(sizes)
        starts = ends - kept if column.kind is Kind.SEQUENCE else ends - sizes
        position = np.arange(length)
        inside = position < kept[:, None]
        bag = np.full((len(lists), length), PADDING, np.int32)
        bag[inside] = self._lookup(column, lists.flatten())[(starts[:, None] + position)[inside]]
        return bag

    def _number(self, column: Column, values: pa.Array) -> Iterator[np.ndarray]:
        """(v - mean) / deviation, 0 where missing; then, for a nullable column, 1 where missing."""
        missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        number = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy()
        mean, deviation = self.scales[column.name]
        scaled = ((np.log1p(number) if column.log else number) - mean) / deviation
        yield np.where(missing, 0.0, np.clip(scaled, -LIMIT, LIMIT))
        if column.nullable:
            yield missing

    def write(self, path: Path) -> None:
        """Write this encoder as JSON, the same bytes for the same encoder."""
        plain = {
            "scenario": self.scenario,
            "scenarios": self.scenarios,
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "scales": self.scales,
            "tables": self.tables,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(plain, separators=(",", ":")) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Encoder":
        """The encoder that `write` wrote."""
        plain = json.loads(path.read_text())
        scales = {name: (mean, deviation) for name, (mean, deviation) in plain["scales"].items()}
        columns = tuple(Column.of(column) for column in plain["columns"])
        return cls(plain["scenario"], tuple(plain["scenarios"]), columns, plain["tables"], scales)


def _tables(columns: tuple[Column, ...]) -> dict[str, None]:
    """Names of the vocabularies, in the order of the first column of each."""
    return dict.fromkeys(column.vocabulary for column in columns if column.kind is not Kind.NUMERIC)


def _vocabulary(
    connection: duckdb.DuckDBPyConnection, name: str, columns: tuple[Column, ...], minimum_count: int
) -> list[Any]:
    """Values seen at least `minimum_count` times, sorted; counted in the plain columns of the domain if it has any."""
    members = [column for column in columns if column.vocabulary == name and column.kind is not Kind.NUMERIC]
    counted = [column for column in members if not column.is_list] or members
    parts = (f'select {"unnest" if c.is_list else ""}("{c.name}") as value from training' for c in counted)
    rows = connection.execute(
        f"select value from ({' union all '.join(parts)}) where value is not null "
        f"group by value having count(*) >= {minimum_count} order by value"
    ).fetchall()
    return [value for (value,) in rows]


def _scale(connection: duckdb.DuckDBPyConnection, column: Column) -> tuple[float, float]:
    """Mean and standard deviation of the training values; (0, 1) where there is nothing to measure."""
    value = f'"{column.name}"::double'
    value = f"ln(1 + {value})" if column.log else value
    found = connection.execute(f"select avg({value}), stddev_pop({value}) from training").fetchone()
    mean, deviation = found or (None, None)
    return (mean or 0.0, deviation or 1.0)


def _flat(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def stack_columns(columns: list[np.ndarray], rows: int, dtype: type) -> np.ndarray:
    """The columns side by side [rows, len(columns)]; no columns: [rows, 0]."""
    if not columns:
        return np.empty((rows, 0), dtype)
    return np.stack(columns, axis=1).astype(dtype)
