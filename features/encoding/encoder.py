"""The encoder: the only code that turns rows into tensors, in training and in serving.

The schema is declared; the encoder is fitted, on the training rows only: vocabularies and scales, in one Parquet file.
A value that is null, or occurs less than `minimum_count` times in training, has id 0: row 0 of its embedding table. Of
a table with hash buckets, values without a row of their own have one of the ids behind the vocabulary: hash_buckets.
Numbers and the dimensions of vectors are standardised by their training values; a missing one is the mean.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray

from common.errors import SchemaError
from common.files import replacing
from features.encoding.hash_buckets import bucket_of
from features.encoding.signed_log import signed_log
from features.encoding.target_scale import TargetScale
from features.encoding.vocabulary import Vocabulary
from features.schema import Column, Kind

UNKNOWN, PADDING = 0, -1
METADATA = b"encoder"  # of the file: all but the vocabularies, as JSON
LIMIT = 8.0  # standard deviations: scaled numbers are clipped here, so that one outlier cannot dominate a row


@dataclass(frozen=True)
class Layout:
    """The shape of encoded rows: what a network has to know of the data."""

    table_rows: tuple[int, ...]  # rows of each embedding table: unknown, the vocabulary's, the hash buckets'
    categorical_tables: tuple[int, ...]  # the table of each of the F categorical columns
    bag_tables: tuple[int, ...]  # the table of each list column
    bag_lengths: tuple[int, ...]  # the number of values kept of each list column
    numeric: int
    scenarios: int
    vectors: tuple[int, ...] = ()  # widths of the vectors, which are the last of the numbers

    def plain(self) -> dict[str, Any]:
        """The fields as a dictionary; `vectors` only where there are any."""
        fields = dataclasses.asdict(self)
        return fields if self.vectors else {name: value for name, value in fields.items() if name != "vectors"}


@dataclass(frozen=True)
class Batch:
    """Encoded rows: categorical int32 [N, F], bags int32 [N, lengths], numeric float32 [N, P], scenario int32 [N].

    `numeric` holds the numbers, and after them each vector; a nullable one is followed by 1 where it is missing.
    """

    categorical: NDArray[np.int32]
    bags: NDArray[np.int32]
    numeric: NDArray[np.float32]
    scenario: NDArray[np.int32]


@dataclass(frozen=True)
class Encoder:
    """Fitted vocabularies and scales; `columns` are the declared inputs in the order in which they are encoded.

    `vocabularies` maps a vocabulary's name to its values in ascending order: that at index i has id i + 1; the
    constructor makes a Vocabulary of any sequence. `scales` maps a numeric column to the mean and standard deviation of
    its training values (after the signed logarithm where declared), `vector_scales` a vector to the means and the
    standard deviations of its dimensions, and `targets` a regression task to the scale of its label. `buckets` maps a
    vocabulary to the number of rows that all other values share by hash; the `capped` vocabularies have the most
    frequent values only.
    """

    scenario: str
    scenarios: tuple[str, ...]
    columns: tuple[Column, ...]
    vocabularies: Mapping[str, Vocabulary]
    scales: dict[str, tuple[float, float]]
    vector_scales: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)
    targets: dict[str, TargetScale] = field(default_factory=dict)
    buckets: dict[str, int] = field(default_factory=dict)
    capped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        held = {name: Vocabulary.of(values) for name, values in self.vocabularies.items()}
        object.__setattr__(self, "vocabularies", held)

    @property
    def layout(self) -> Layout:
        """The shape of the rows that this encoder makes."""
        index = {name: position for position, name in enumerate(self.vocabularies)}
        vectors = tuple((c.length or 0) + c.nullable for c in self._of(Kind.VECTOR))
        return Layout(
            table_rows=tuple(1 + len(values) + self.buckets.get(name, 0) for name, values in self.vocabularies.items()),
            categorical_tables=tuple(index[c.vocabulary] for c in self._of(Kind.CATEGORICAL)),
            bag_tables=tuple(index[c.vocabulary] for c in self._lists),
            bag_lengths=tuple(c.length or 0 for c in self._lists),
            numeric=len(self.numbers),
            scenarios=len(self.scenarios),
            vectors=vectors,
        )

    @cached_property
    def numbers(self) -> tuple[Column, ...]:
        """The column of each of the P numbers of a row."""
        plain = [column for column in self._of(Kind.NUMERIC) for _ in range(1 + column.nullable)]
        return (*plain, *(c for c in self._of(Kind.VECTOR) for _ in range((c.length or 0) + c.nullable)))

    @property
    def number_names(self) -> Iterator[str]:
        """A name for each of the P numbers: its column's, with the dimension of a vector; (missing) of a flag."""
        for column in dict.fromkeys(self.numbers):
            dimensions = (f"{column.name}[{dimension}]" for dimension in range(1, 1 + (column.length or 0)))
            yield from dimensions if column.is_vector else (column.name,)
            if column.nullable:
                yield f"{column.name} (missing)"

    def encode(self, rows: pa.Table) -> Batch:
        """The tensors of `rows`, which must hold every column by name; raises SchemaError on an unknown scenario."""
        categorical = [self._lookup(c, _flat(rows, c.name)) for c in self._of(Kind.CATEGORICAL)]
        bags = [self._bag(c, _flat(rows, c.name)) for c in self._lists]
        numbers = [part for c in self._of(Kind.NUMERIC) for part in self._number(c, _flat(rows, c.name))]
        numeric = stack_columns(numbers, rows.num_rows, np.float32)
        vectors = [self._vector(c, _flat(rows, c.name)) for c in self._of(Kind.VECTOR)]
        scenario = pc.index_in(_flat(rows, self.scenario), value_set=pa.array(self.scenarios))
        if scenario.null_count:
            raise SchemaError(f"{scenario.null_count} rows have a {self.scenario} that is none of {self.scenarios}")
        return Batch(
            categorical=stack_columns(categorical, rows.num_rows, np.int32),
            bags=np.concatenate([*bags, np.empty((rows.num_rows, 0), np.int32)], axis=1),
            numeric=np.concatenate([numeric, *vectors], axis=1) if vectors else numeric,
            scenario=scenario.to_numpy(zero_copy_only=False).astype(np.int32),
        )

    def encode_numbers(self, values: Mapping[str, pa.Array]) -> NDArray[np.float32]:
        """The numbers [N, P'] of the numeric columns in `values` [N], in this encoder's order, as `encode` has them."""
        columns = [column for column in self._of(Kind.NUMERIC) if column.name in values]
        numbers = [part for column in columns for part in self._number(column, values[column.name])]
        return np.stack(numbers, axis=1).astype(np.float32)

    def _of(self, kind: Kind) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.kind is kind)

    @cached_property
    def _lists(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_list)

    def _lookup(self, column: Column, values: pa.Array) -> NDArray[np.int32]:
        """The id of each value [N], UNKNOWN where it has none."""
        known, ids = self.vocabularies[column.vocabulary].array, np.zeros(len(values), np.int32)
        if len(known):
            index = pc.index_in(values.cast(known.type), value_set=known)
            ids = (pc.fill_null(index, -1).to_numpy() + 1).astype(np.int32)
        if column.vocabulary in self.buckets:
            hashed = (ids == UNKNOWN) & values.is_valid().to_numpy(zero_copy_only=False)
            ids[hashed] = self._hashed(column.vocabulary, values.filter(pa.array(hashed)))
        return ids

    def _hashed(self, vocabulary: str, values: pa.Array) -> NDArray[np.int32]:
        """The id of each value without a row of its own [N]; each distinct one is hashed once."""
        distinct = values.dictionary_encode()
        ids = [self.hashed_id(vocabulary, value) for value in distinct.dictionary.to_pylist()]
        shared: NDArray[np.int32] = np.array(ids, np.int32)[distinct.indices.to_numpy()]
        return shared

    def hashed_id(self, vocabulary: str, value: str | int) -> int:
        """The id of a value without a row of its own in a vocabulary with hash buckets."""
        return len(self.vocabularies[vocabulary]) + 1 + bucket_of(value, self.buckets[vocabulary])

    def without_hashed(self, batch: Batch) -> Batch:
        """The rows with UNKNOWN for each hashed value: what they have of values with a row of their own."""
        if not self.buckets:
            return batch
        own = {c.name: len(self.vocabularies[c.vocabulary]) for c in self.columns if c.has_vocabulary}
        single = np.array([own[c.name] for c in self._of(Kind.CATEGORICAL)], np.int32)  # [F]
        several = np.array([own[c.name] for c in self._lists for _ in range(c.length or 0)], np.int32)  # [L]
        return dataclasses.replace(
            batch,
            categorical=np.where(batch.categorical > single, UNKNOWN, batch.categorical),
            bags=np.where(batch.bags > several, UNKNOWN, batch.bags),
        )

    def _bag(self, column: Column, lists: pa.Array) -> NDArray[np.int32]:
        """Ids of the newest (sequence) or first (set) `length` values of each list [N, length], then PADDING."""
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

    def _number(self, column: Column, values: pa.Array) -> Iterator[NDArray[Any]]:
        """(v - mean) / deviation, 0 where missing; then, for a nullable column, 1 where missing."""
        missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        number = pc.fill_null(values.cast(pa.float64(), safe=False), np.nan).to_numpy()  # to the nearest above 2^53
        mean, deviation = self.scales[column.name]
        with np.errstate(over="ignore"):  # beyond float64 is beyond LIMIT, too
            scaled = ((signed_log(number) if column.log else number) - mean) / deviation
        yield np.where(missing, 0.0, np.clip(scaled, -LIMIT, LIMIT))
        if column.nullable:
            yield missing

    def _vector(self, column: Column, vectors: pa.Array) -> NDArray[np.float32]:
        """(v - mean) / deviation by dimension, 0 where missing [N, length]; of a nullable column, 1 where missing."""
        length, present = column.length or 0, vectors.is_valid().to_numpy(zero_copy_only=False)
        sizes = pc.list_value_length(vectors).drop_null().to_numpy()
        if (wrong := sizes[sizes != length]).size:
            raise SchemaError(f"column {column.name}: {len(wrong)} vectors have not {length} numbers, found {wrong[0]}")
        numbers = pc.fill_null(vectors.flatten().cast(pa.float64()), np.nan).to_numpy().reshape(-1, length)
        encoded = np.zeros((len(vectors), length + column.nullable), np.float32)
        encoded[present, :length] = standardise(numbers, *self.vector_scales[column.name])
        if column.nullable:
            encoded[:, length] = ~present
        return encoded

    def write(self, path: Path) -> None:
        """Write this encoder as a Parquet file, the same bytes for the same encoder.

        Its one row has a list for each vocabulary; all else is JSON in its metadata.
        """
        plain = {
            "scenario": self.scenario,
            "scenarios": self.scenarios,
            "columns": [dataclasses.asdict(column) for column in self.columns],
            "scales": self.scales,
            **({"vectors": self.vector_scales} if self.vector_scales else {}),
            **({"targets": self.targets} if self.targets else {}),
            **({"buckets": self.buckets} if self.buckets else {}),
            **({"capped": self.capped} if self.capped else {}),
        }
        lists = [pa.LargeListArray.from_arrays([0, len(held)], held.array) for held in self.vocabularies.values()]
        table = pa.Table.from_arrays(lists, names=list(self.vocabularies))
        metadata = {METADATA: json.dumps(plain, separators=(",", ":"))}
        with replacing(path) as partial:
            pq.write_table(table.replace_schema_metadata(metadata), partial, use_dictionary=False)

    @classmethod
    def read(cls, path: Path) -> "Encoder":
        """The encoder that `write` wrote, or as JSON an earlier version; raises SchemaError where the file is none."""
        plain, vocabularies = _read_json(path) if path.suffix == ".json" else _read_parquet(path)
        scales = {name: (mean, deviation) for name, (mean, deviation) in plain["scales"].items()}
        vectors = {name: (means, deviations) for name, (means, deviations) in plain.get("vectors", {}).items()}
        targets = {task: TargetScale(*scale) for task, scale in plain.get("targets", {}).items()}
        return cls(
            scenario=plain["scenario"],
            scenarios=tuple(plain["scenarios"]),
            columns=tuple(Column.of(column) for column in plain["columns"]),
            vocabularies=vocabularies,
            scales=scales,
            vector_scales=vectors,
            targets=targets,
            buckets=plain.get("buckets", {}),
            capped=tuple(plain.get("capped", ())),
        )


def _read_parquet(path: Path) -> tuple[dict[str, Any], dict[str, Vocabulary]]:
    try:
        table = pq.read_table(path)
        plain = json.loads((table.schema.metadata or {})[METADATA])
    except (pa.ArrowException, KeyError) as error:
        raise SchemaError(f"{path} is no encoder ({error}): run `dvc repro encode`") from error
    vocabularies = {name: Vocabulary(_flat(table, name).flatten()) for name in table.column_names}
    del table
    pa.default_memory_pool().release_unused()  # a service reads it once: the pool would keep several times the values
    return plain, vocabularies


def _read_json(path: Path) -> tuple[dict[str, Any], dict[str, Vocabulary]]:
    plain = json.loads(path.read_text(encoding="utf-8"))
    return plain, {name: Vocabulary(values) for name, values in plain["tables"].items()}


def standardise(vectors: NDArray[np.float64], means: list[float], deviations: list[float]) -> NDArray[np.float64]:
    """Vectors [N, length] as (v - mean) / deviation by dimension, within LIMIT; 0 for a number that is NaN."""
    scaled = np.clip((vectors - np.array(means)) / np.array(deviations), -LIMIT, LIMIT)
    return np.where(np.isnan(scaled), 0.0, scaled)


def _flat(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def stack_columns(columns: list[NDArray[Any]], rows: int, dtype: DTypeLike) -> NDArray[Any]:
    """The columns stacked as [rows, len(columns)]; no columns: [rows, 0]."""
    if not columns:
        return np.empty((rows, 0), dtype)
    return np.stack(columns, axis=1).astype(dtype)
