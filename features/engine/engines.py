"""Where the statements of the pipeline run: DuckDB on this machine, or Spark on many."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import duckdb
import pyarrow as pa

from common import params
from features.engine import sql
from features.engine.connection import connect
from features.engine.protocol import Engine, MapBatches, Row


class DuckDBEngine:
    """DuckDB in this process."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def read(self, name: str, path: Path, pattern: str | None = None, columns: Sequence[str] = ()) -> None:
        """See Engine."""
        self.define(name, f"select {sql.columns(columns) or '*'} from {sql.parquet(path, pattern)}")

    def table(self, name: str, rows: pa.Table) -> None:
        """See Engine."""
        self._connection.register(name, rows)

    def define(self, name: str, query: str) -> None:
        """See Engine."""
        self._connection.execute(f"create or replace view {name} as {query}")

    def keep(self, name: str, query: str) -> None:
        """See Engine."""
        self._connection.execute(f"create or replace temp table {name} as {query}")

    def rows(self, query: str) -> list[Row]:
        """See Engine."""
        return self._connection.execute(query).fetchall()

    def batches(self, query: str) -> Iterable[pa.RecordBatch]:
        """See Engine."""
        reader: Iterable[pa.RecordBatch] = self._connection.execute(query).to_arrow_reader()
        return reader

    def write(self, query: str, types: pa.Schema, out: Path) -> int:
        """See Engine; the types are those of the query."""
        copied = self._connection.execute(f"copy ({query}) to {sql.literal(out)} (format parquet)").fetchone()
        assert copied is not None  # DuckDB returns the number of rows
        return int(copied[0])

    def mapped(self, query: str, function: MapBatches, types: pa.Schema) -> Iterable[pa.RecordBatch]:
        """See Engine."""
        return function(self.batches(query))


@contextmanager
def open_engine(settings: params.Engine, scratch: Path) -> Iterator[Engine]:
    """The engine that params.yaml names; what it spills lies under `scratch`.

    Raises EngineError where Spark is named and cannot be started here.
    """
    if settings.name == "duckdb":
        with connect(scratch) as connection:
            yield DuckDBEngine(connection)
        return
    from features.engine.spark import open_spark  # the extra `spark`, which only this engine needs

    with open_spark(settings, scratch) as engine:
        yield engine


def open_cluster(settings: params.Engine, scratch: Path) -> AbstractContextManager[Engine | None]:
    """Spark, where params.yaml names it; None: each task of this machine has a DuckDB of its own."""
    return open_engine(settings, scratch) if settings.name == "spark" else nullcontext()
