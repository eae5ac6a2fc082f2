"""Frozen bins: the bin of a histogram in which a value is counted, in training and in every later window.

Histograms of two windows can be compared only on the same bins, so these are fitted once, on the training rows, as the
encoder is. Every column has bins for unusual values: missing, and unknown (a category that is not in the encoder's
vocabulary) or outside the range of training (a number).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from features.encoding.encoder import Encoder
from features.engine import sql
from features.engine.protocol import Engine
from features.schema import Column, Kind, newest_day

QUANTILES = 10  # inner bins of a number
STATEMENT_COLUMNS = 100  # whose numbers are counted in one statement
COMMONEST = 24  # categories with a separate bin: enough for the hours of the day
MISSING, UNKNOWN, OTHER = 0, 1, 2  # the first bins of categories
BELOW = 1  # of numbers: the second bin is below the least value of training, the last above the largest


class Measure(StrEnum):
    """What is counted of a column: its values, or a number that they have."""

    VALUE = "value"
    LENGTH = "length"  # of a list
    AGE = "age"  # of a sequence: days from its newest value to the impression
    NORM = "norm"  # of a vector
    COSINE = "cosine"  # of a vector, with the mean vector of training
    POSITION = "position"  # of an impression, where one is known: a scored impression without an event has none


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The bins of a column; of a list those of its elements, its length, or its age in days (`measure`).

    A vector has bins of its norm and of its cosine with the mean of training, `centroid`.

    Numbers (`numeric`): missing, below, one bin between each two of `edges` (raw values, the last closed), above.
    Categories: missing, unknown, other known values, and one for each of `values`, the commonest of training.
    """

    name: str
    column: str
    kind: Kind
    edges: tuple[float, ...] = ()
    values: tuple[str | int, ...] = ()
    vocabulary: str = ""
    log: bool = False
    measure: Measure = Measure.VALUE
    centroid: tuple[float, ...] = ()

    @property
    def is_list(self) -> bool:
        """Whether a row has a list of values."""
        return self.kind in (Kind.MULTI_VALUED, Kind.SEQUENCE)

    @property
    def numeric(self) -> bool:
        """Whether the bins are intervals of a number."""
        return self.kind is Kind.NUMERIC or self.measure is not Measure.VALUE

    @property
    def number(self) -> str:
        """SQL: the number that is counted, over rows with `__date`, the day of the impression since 1970."""
        numbers = {
            Measure.VALUE: sql.column(self.column),
            Measure.POSITION: sql.column(self.column),
            Measure.LENGTH: f"array_length({sql.column(self.column)})",
            Measure.AGE: f"__date - {sql.column(newest_day(self.column))}",
            Measure.NORM: self._of_vector("sqrt({squares})"),
            Measure.COSINE: self._of_vector("{products} / nullif(sqrt({squares}) * {norm}, 0)"),
        }
        return f"({numbers[self.measure]})::double"

    def _of_vector(self, formula: str) -> str:
        """SQL: a number of a vector's products with itself and the centroid, null where the vector is not whole."""
        vector, length = sql.column(self.column), len(self.centroid)
        value, centroid = f"list_extract({vector}, __d)::double", ", ".join(map(sql.number, self.centroid))
        products = (
            f"list_reduce(list_transform(generate_series(1, {length}), lambda __d: {value} * {factor}), "
            "lambda __sum, __x: __sum + __x, 0e0)"
            for factor in (value, f"list_extract([{centroid}], __d)")
        )
        names = zip(("squares", "products"), products, strict=True)
        number = formula.format(**dict(names), norm=sql.number(math.hypot(*self.centroid)))
        known = f"array_length(list_filter({vector}, lambda __x: __x is not null))"
        return f"case when {known} = {length} and array_length({vector}) = {length} then {number} end"

    @property
    def source_column(self) -> str:
        """The name of the column of the rows that is read."""
        return newest_day(self.column) if self.measure is Measure.AGE else self.column

    @property
    def count(self) -> int:
        """Number of bins."""
        return len(self.edges) + 2 if self.numeric else len(self.values) + 3

    @property
    def unit(self) -> float:
        """The largest absolute number of training, by which raw numbers are divided before they are summed; never 0."""
        return max(map(abs, self.edges)) or 1.0

    @property
    def usual(self) -> slice:
        """The bins of values as training saw them."""
        return slice(2, self.count - 1) if self.numeric else slice(2, self.count)

    @property
    def labels(self) -> list[str]:
        """The title of each bin."""
        if not self.numeric:
            return ["missing", "unknown", "other", *map(str, self.values)]
        low, high = f"{self.edges[0]:.4g}", f"{self.edges[-1]:.4g}"
        inner = [f"{a:.4g} .. {b:.4g}" for a, b in zip(self.edges, self.edges[1:], strict=False)]
        return ["missing", f"below {low}", *inner, f"above {high}"]

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Bins":
        """The bins whose `to_plain` went through JSON; older models say `of_length` instead of `measure`."""
        plain = dict(plain)
        older = Measure.LENGTH if plain.pop("of_length", False) else Measure.VALUE
        typed = {"kind": Kind(plain["kind"]), "measure": Measure(plain.get("measure", older))}
        plain["centroid"] = tuple(plain.get("centroid", ()))
        return cls(**{**plain, **typed, "edges": tuple(plain["edges"]), "values": tuple(plain["values"])})

    def to_plain(self) -> dict[str, Any]:
        """A dictionary of plain values for JSON; the centroid only where there is one."""
        plain = asdict(self)
        return plain if self.centroid else {name: value for name, value in plain.items() if name != "centroid"}


def fit_bins(engine: Engine, encoder: Encoder, present: set[str], position: str | None = None) -> tuple[Bins, ...]:
    """Bins of every column of the encoder, and of `position`, fitted on the relation `training`.

    It has the columns `present`, and `__date`, the day of the impression since 1970.
    """
    unfitted = [bins for column in encoder.columns for bins in _of_column(column, encoder, present)]
    if position is not None:
        unfitted.append(Bins(name=position, column=position, kind=Kind.NUMERIC, measure=Measure.POSITION))
    fitted = iter(fit_numbers(engine, [bins for bins in unfitted if bins.numeric]))
    return tuple(next(fitted) if b.numeric else replace(b, values=_commonest(engine, encoder, b)) for b in unfitted)


def _of_column(column: Column, encoder: Encoder, present: set[str]) -> Iterator[Bins]:
    """The unfitted bins of a column, where the rows have the columns `present`."""
    name, kind = column.name, column.kind
    assert kind is not None  # the encoder holds features only
    if column.is_vector:
        centroid = tuple(encoder.vector_scales[name][0])
        for measure in (Measure.NORM, Measure.COSINE):
            yield Bins(name=f"{name}: {measure}", column=name, kind=kind, measure=measure, centroid=centroid)
        return
    yield Bins(name=name, column=name, kind=kind, vocabulary=column.vocabulary, log=column.log)
    if column.is_list:
        yield Bins(name=f"{name}: length", column=name, kind=kind, measure=Measure.LENGTH)
    if kind is Kind.SEQUENCE and newest_day(name) in present:
        yield Bins(name=f"{name}: age", column=name, kind=kind, measure=Measure.AGE)


def fit_numbers(engine: Engine, unfitted: Sequence[Bins]) -> list[Bins]:
    """The bins of numbers, with the edges of their values in the relation `training`."""
    finite = [f"abs({bins.number}) < 'infinity'::double" for bins in unfitted]
    counts: list[int] = []
    for start in range(0, len(finite), STATEMENT_COLUMNS):
        part = ", ".join(f"count(case when {one} then 1 end)" for one in finite[start : start + STATEMENT_COLUMNS])
        counts += engine.rows(f"select {part} from training")[0]
    edges = (
        _edges(engine, f"select {bins.number} as value from training where {one}", count)
        for bins, one, count in zip(unfitted, finite, counts, strict=True)
    )
    return [replace(bins, edges=own) for bins, own in zip(unfitted, edges, strict=True)]


def _edges(engine: Engine, numbers: str, count: int) -> tuple[float, ...]:
    """Least value, inner quantiles, largest value: distinct, at least two; a frequent value is one edge.

    Args:
        engine: Where the statement runs.
        numbers: SQL of the finite numbers.
        count: How many they are.
    """
    ranks = np.array([max(0, math.ceil(count * step / QUANTILES) - 1) for step in range(QUANTILES + 1)])
    query = f"select value, count(*) as equal from ({numbers}) group by value order by value"
    distinct, before = set(), 0
    for batch in engine.batches(query) if count else ():
        values, last = batch.column(0).to_numpy(), before + np.cumsum(batch.column(1).to_numpy())
        positions = np.searchsorted(last, ranks[(ranks >= before) & (ranks < last[-1])], side="right")
        distinct |= {float(value) + 0.0 for value in values[positions]}  # no negative zero
        before = int(last[-1])
    edges = sorted(distinct) or [0.0]
    return tuple(edges if len(edges) > 1 else [edges[0], edges[0] + 1])


def _commonest(engine: Engine, encoder: Encoder, bins: Bins) -> tuple[str | int, ...]:
    value = sql.column(bins.column)
    value = f"unnest({value})" if bins.is_list else value
    rows = engine.rows(
        f"select value from (select {value} as value from training) where value is not null "
        f"group by value order by count(*) desc, value limit {2 * COMMONEST}"
    )
    known = encoder.vocabularies[bins.vocabulary]
    return tuple(value for (value,) in rows if value in known)[:COMMONEST]
