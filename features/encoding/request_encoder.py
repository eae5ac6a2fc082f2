"""The encoder of a request: one row of some columns, without the cost of a table.

The Encoder looks up columns of many rows; each lookup builds a hash table of the whole vocabulary first, which for one
row of forty columns is a hundred times the work. This is the same arithmetic over the same vocabularies, value by
value; a test holds its bytes equal to the Encoder's.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import SchemaError
from features.encoding.encoder import LIMIT, PADDING, UNKNOWN, Batch, Encoder, standardise
from features.encoding.hash_buckets import Rows
from features.encoding.signed_log import signed_log
from features.schema import Column, DType, Kind


class RequestEncoder:
    """Encodes one row at a time of the columns `names`; the other columns are unknown, padding and zero."""

    def __init__(self, encoder: Encoder, names: frozenset[str]) -> None:
        self.encoder, self.layout = encoder, encoder.layout
        columns = encoder.columns
        self.categorical = _indices([c for c in columns if c.kind is Kind.CATEGORICAL], names)
        self.bags = _spans([c for c in columns if c.is_list], names)
        self.numeric = _numbers([c for c in columns if c.kind is Kind.NUMERIC], names)
        scales = [encoder.scales[column.name] for column, _ in self.numeric]
        self.means, self.deviations = (np.array([scale[part] for scale in scales], np.float64) for part in (0, 1))
        self.logs = np.array([column.log for column, _ in self.numeric], np.bool_)
        self.names = [column.name for column, _ in self.numeric]
        self.single = np.array([column.dtype is DType.FLOAT32 for column, _ in self.numeric], np.bool_)
        self.values = np.array([index for _, index in self.numeric], np.int64)
        self.flags = np.array([index + 1 for column, index in self.numeric if column.nullable], np.int64)
        self.nullable = np.array([column.nullable for column, _ in self.numeric], np.bool_)
        starts = {column.name: start for start, column in reversed(list(enumerate(encoder.numbers)))}
        self.vectors = [(c, starts[c.name]) for c in columns if c.is_vector and c.name in names]

    @cached_property
    def _ids(self) -> dict[str, Rows]:
        """The id of each value, by vocabulary."""
        used = {column.vocabulary for column, _ in (*self.categorical, *self.bags)}
        return {
            name: Rows(values, self.encoder.buckets.get(name, 0))
            for name, values in self.encoder.vocabularies.items()
            if name in used
        }

    def encode(self, row: Mapping[str, Any], scenario: int) -> Batch:
        """The tensors [1, ..] of a row in a scenario (its index); an absent column is a missing value."""
        layout = self.layout
        categorical = np.full((1, len(layout.categorical_tables)), UNKNOWN, np.int32)
        bags = np.full((1, sum(layout.bag_lengths)), PADDING, np.int32)
        for column, index in self.categorical:
            categorical[0, index] = self._ids[column.vocabulary][row.get(column.name)]
        for column, start in self.bags:
            self._bag(column, row.get(column.name), bags[0, start : start + (column.length or 0)])
        numeric = np.zeros((1, layout.numeric), np.float32)
        if self.numeric:
            self._number(row, numeric[0])
        for column, start in self.vectors:
            width = (column.length or 0) + column.nullable
            self._vector(column, row.get(column.name), numeric[0, start : start + width])
        return Batch(categorical, bags, numeric, np.array([scenario], np.int32))

    def _bag(self, column: Column, values: list[Any] | None, out: NDArray[np.int32]) -> None:
        """Write the ids of the newest (sequence) or first (set) values of a list into `out` [length]."""
        kept = (values or [])[-len(out) :] if column.kind is Kind.SEQUENCE else (values or [])[: len(out)]
        ids = self._ids[column.vocabulary]
        out[: len(kept)] = [ids[value] for value in kept]

    def _number(self, row: Mapping[str, Any], out: NDArray[np.float32]) -> None:
        """Write every number of the row, scaled, and after each nullable one whether it is missing, into `out` [P]."""
        with np.errstate(all="ignore"):
            values = np.array([row.get(name) for name in self.names], np.float64)  # None becomes NaN
            values = np.where(self.single, values.astype(np.float32), values)  # rounded as a float32 column would be
            missing = np.isnan(values)
            scaled = (np.where(self.logs, signed_log(values), values) - self.means) / self.deviations
        out[self.values] = np.where(missing, 0.0, np.clip(scaled, -LIMIT, LIMIT))
        out[self.flags] = missing[self.nullable]

    def _vector(self, column: Column, values: list[float] | None, out: NDArray[np.float32]) -> None:
        """Write a vector, standardised, and after a nullable one whether it is missing, into `out` [width]."""
        length = column.length or 0
        if values is None:
            out[length:] = 1.0
            return
        if len(values) != length:
            raise SchemaError(f"column {column.name}: a vector has not {length} numbers, found {len(values)}")
        with np.errstate(over="ignore"):  # rounded as a float32 column would be
            vector = np.array([values], np.float32).astype(np.float64)
        out[:length] = standardise(vector, *self.encoder.vector_scales[column.name])[0]


def _indices(columns: list[Column], names: frozenset[str]) -> list[tuple[Column, int]]:
    return [(column, index) for index, column in enumerate(columns) if column.name in names]


def _spans(columns: list[Column], names: frozenset[str]) -> list[tuple[Column, int]]:
    starts = np.cumsum([0, *(column.length or 0 for column in columns)])
    return [(column, int(start)) for column, start in zip(columns, starts, strict=False) if column.name in names]


def _numbers(columns: list[Column], names: frozenset[str]) -> list[tuple[Column, int]]:
    starts = np.cumsum([0, *(1 + column.nullable for column in columns)])
    return [(column, int(start)) for column, start in zip(columns, starts, strict=False) if column.name in names]
