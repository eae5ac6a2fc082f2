"""Parquet files under `engine.storage`, written and read by executors through fsspec: no class of Hadoop is needed."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext

from common.stored_files import open_parquet, write_file
from features.engine.blocks import blocks

FILE_ROWS = 122_880  # of a row group, as DuckDB has them
GROUP = "__group"  # the column with the index of a row's file
WRITTEN = pa.schema([(GROUP, pa.int32()), ("url", pa.string()), ("rows", pa.int64()), ("sha256", pa.string())])


def write_parts(urls: list[str], types: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write the rows of a task, which are ordered by group, to a file for each group; yields what was written.

    Args:
        urls: The folder of each group.
        types: Columns and types of the files.
        batches: The rows, with GROUP.
    """
    task = TaskContext.get()
    assert task is not None  # this runs in an executor
    name = f"part-{task.partitionId():06d}-{task.taskAttemptId()}.parquet"
    for group, parts in groupby(_by_group(blocks(batches, FILE_ROWS)), itemgetter(0)):
        tables = (part.select(types.names).cast(types) for _, part in parts)
        written = write_file(f"{urls[group]}/{name}", types, tables)
        yield pa.record_batch([[value] for value in (group, *written)], WRITTEN)


def read_parts(columns: list[str], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows of the Parquet files whose names are the first column of `batches`."""
    for batch in batches:
        for name in batch.column(0).to_pylist():
            with open_parquet(name) as file:
                yield from file.iter_batches(columns=columns)


def _by_group(tables: Iterable[pa.Table]) -> Iterator[tuple[int, pa.Table]]:
    """Tables divided where their group changes."""
    for table in tables:
        for group in pc.unique(table[GROUP]).to_pylist():
            yield group, table.filter(pc.equal(table[GROUP], group))
