"""What the engines of the pipeline's statements have in common.

There is one text of each statement, in the part of DuckDB's SQL that Spark has too (features/engine/portable_sql.py).
An engine keeps named relations, runs statements over them, and gives the same rows in the same order as any other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Row = tuple[Any, ...]
Group = Callable[[pa.Table], NDArray[np.integer]]  # rows [N] to the index of the group of each [N]
MapBatches = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Engine(Protocol):
    """Runs portable statements over named relations; names of relations are the pipeline's own, unquoted."""

    def read(self, name: str, path: Path, pattern: str | None = None, columns: Sequence[str] = ()) -> None:
        """Define a relation: the rows of a Parquet file, or of the files in a folder that match `pattern`.

        `columns` are those that are read; none: all.
        """

    def table(self, name: str, rows: pa.Table) -> None:
        """Define, or replace, a relation: rows in memory."""

    def define(self, name: str, query: str) -> None:
        """Define, or replace, a relation that is computed whenever it is used."""

    def keep(self, name: str, query: str) -> None:
        """Define, or replace, a relation that is computed once."""

    def rows(self, query: str) -> list[Row]:
        """The rows of a query, few enough to be held in memory."""

    def batches(self, query: str) -> Iterable[pa.RecordBatch]:
        """The rows of an ordered query, in their order."""

    def write(self, query: str, types: pa.Schema, out: Path) -> int:
        """Write the rows of an ordered query to the Parquet file `out`; returns their number."""

    def mapped(self, query: str, function: MapBatches, types: pa.Schema) -> Iterable[pa.RecordBatch]:
        """What `function` makes of the batches of a query, wherever, in the order of its first column.

        That is the order of the query, too. The function and what it holds travel to other processes.
        """


@runtime_checkable
class StoringEngine(Engine, Protocol):
    """An engine whose rows may lie under a URL; a manifest stands for them in the workspace."""

    def write_groups(self, query: str, group_of: Group, types: pa.Schema, outs: list[Path], *, order: str) -> list[int]:
        """Write the rows of a query in groups to the storage; returns the number of rows of each.

        Args:
            query: The rows; their order is of no importance.
            group_of: The group of each row of a table; it travels to other processes.
            types: Columns and types of the rows.
            outs: The Parquet file that each group would be in the workspace.
            order: Column by which each group is sorted.
        """
