"""What the engines of the pipeline's statements have in common.

There is one text of each statement, in the part of DuckDB's SQL that Spark has too (features/engine/portable_sql.py).
An engine keeps named relations, runs statements over them, and gives the same rows in the same order as any other.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

Row = tuple[Any, ...]
MapBatches = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


class Engine(Protocol):
    """Runs portable statements over named relations; names of relations are the pipeline's own, unquoted."""

    def read(self, name: str, path: Path, pattern: str | None = None) -> None:
        """Define a relation: the rows of a Parquet file, or of the files in a folder that match `pattern`."""

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

    def mapped(self, path: Path, function: MapBatches, types: pa.Schema) -> Iterable[pa.RecordBatch]:
        """What `function` makes of the batches of a Parquet file, wherever, in the order of its first column.

        That is the order of the file, too. The function and what it holds travel to other processes.
        """
