"""Frozen bins: what a value counts as in a histogram, at training and ever after.

Histograms of two windows can be compared only on the same bins, so these are fitted once, on the training rows, as the
encoder is. Every column has bins for what is not a usual value: missing, and unknown (a category without a row in the
encoder's tables) or beyond what training has seen (a number).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import duckdb
from numpy import unique

from features.encode import Encoder
from features.schema import Column, Kind

QUANTILES = 10  # inner bins of a number
COMMONEST = 24  # categories with a bin of their own: hours of the day fit in
MISSING, UNKNOWN, OTHER = 0, 1, 2  # the first bins of categories
BELOW = 1  # of numbers: the second bin is below the least value of training, the last above the largest


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The bins of a column, or of one side of a list: its elements, or its length (`of_length`).

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
    of_length: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the bins are intervals of a number."""
        return self.kind is Kind.NUMERIC or self.of_length

    @property
    def count(self) -> int:
        """Number of bins."""
        return len(self.edges) + 2 if self.numeric else len(self.values) + 3

    @property
    def unit(self) -> float:
        """The largest number of training in size, by which moments are measured: any number but 0 where that is 0."""
        return max(map(abs, self.edges)) or 1.0

    @property
    def usual(self) -> slice:
        """The bins of values as training saw them."""
        return slice(2, self.count - 1) if self.numeric else slice(2, self.count)

    @property
    def labels(self) -> list[str]:
        """What each bin is called."""
        if not self.numeric:
            return ["missing", "unknown", "other", *map(str, self.values)]
        low, high = f"{self.edges[0]:.4g}", f"{self.edges[-1]:.4g}"
        inner = [f"{a:.4g} .. {b:.4g}" for a, b in zip(self.edges, self.edges[1:], strict=False)]
        return ["missing", f"below {low}", *inner, f"above {high}"]

    @classmethod
    def of(cls, plain: dict[str, Any]) -> "Bins":
        """The bins whose `to_plain` went through JSON."""
        typed = {"kind": Kind(plain["kind"]), "edges": tuple(plain["edges"]), "values": tuple(plain["values"])}
        return cls(**{**plain, **typed})

    def to_plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def fit_bins(connection: duckdb.DuckDBPyConnection, encoder: Encoder) -> tuple[Bins, ...]:
    """Bins of every column of the encoder, fitted on the relation `training` of the connection."""
    return tuple(bins for column in encoder.columns for bins in _of_column(connection, encoder, column))


def _of_column(connection: duckdb.DuckDBPyConnection, encoder: Encoder, column: Column) -> Iterator[Bins]:
    name = column.name
    assert column.kind is not None  # the encoder holds features only
    if column.kind is Kind.NUMERIC:
        yield Bins(name=name, column=name, kind=column.kind, log=column.log, edges=_edges(connection, f'"{name}"'))
        return
    values = _commonest(connection, encoder, column)
    yield Bins(name=name, column=name, kind=column.kind, values=values, vocabulary=column.vocabulary)
    if column.is_list:
        edges = _edges(connection, f'len("{name}")')
        yield Bins(name=f"{name}: length", column=name, kind=column.kind, edges=edges, of_length=True)


def _edges(connection: duckdb.DuckDBPyConnection, value: str) -> tuple[float, ...]:
    """Least value, inner quantiles, largest value: distinct, at least two; a value that is often seen is one edge."""
    shares = ", ".join(f"{place / QUANTILES}" for place in range(QUANTILES + 1))
    found = connection.execute(
        f"select quantile_disc({value}::double, [{shares}]) from training where isfinite({value}::double)"
    ).fetchone()
    edges: Iterable[float] = (found and found[0]) or [0.0]
    distinct = [float(edge) for edge in unique(list(edges))]
    return tuple(distinct if len(distinct) > 1 else [distinct[0], distinct[0] + 1])


def _commonest(connection: duckdb.DuckDBPyConnection, encoder: Encoder, column: Column) -> tuple[str | int, ...]:
    value = f'unnest("{column.name}")' if column.is_list else f'"{column.name}"'
    rows = connection.execute(
        f"select value from (select {value} as value from training) where value is not null "
        f"group by value order by count(*) desc, value limit {2 * COMMONEST}"
    ).fetchall()
    known = set(encoder.tables[column.vocabulary])
    return tuple(value for (value,) in rows if value in known)[:COMMONEST]
