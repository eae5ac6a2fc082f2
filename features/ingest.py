"""Stage: raw log -> typed events by day with an id, users, items, schema, counts and (where known) the truth.

Memory does not grow with the log. Logs are not always in order of time, so chunks are typed and spilled to one file;
DuckDB sorts it within a fixed amount of memory (the rest goes to disk) and hands the rows back in order; they are
numbered and written day by day as they come. One pass, however many days there are.
"""

import datetime
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from common import params, stage
from common.errors import SourceError
from features import datasets
from features.datasets.log import ROW, TRUE, Log
from features.engine.arrow_types import TYPES
from features.schema import Column, Role, Schema, to_json

ROWS = 131_072  # of a row group, and of what is in memory at once
MEMORY = "256MB"  # of DuckDB, while it sorts
EVENTS = "events.parquet"  # what is spilled
LATER = "on dataset.until or later"
_POSITION = "_position"  # of a row in the raw log: settles the order within one moment


def ingest(*, schema: Path, out: Path, truth: Path) -> None:
    """Read the log that params.yaml names into `out` (events by day, users, items, counts), `schema` and `truth`.

    Raises SourceError where the log is missing, incomplete or holds values that its schema does not allow.
    """
    dataset = params.load().dataset
    log = datasets.read(dataset)
    for folder in (out, truth, schema.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with _spill_folder(out) as spill:
        _spill(log, spill / EVENTS, dataset.until)
        written = _write_events(log.schema, spill, out / "events", truth / "truth.parquet")
    _write_entities(log, out)
    (out / "counts.json").write_text(_counts(log, written))
    schema.write_text(to_json(log.schema))


@contextmanager
def _spill_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out`, on the same disk, that is gone afterwards; one of a run that was killed goes first."""
    spill = out.with_name(out.name + ".spill")
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir()
    try:
        yield spill
    finally:
        shutil.rmtree(spill)


def typed(frame: pd.DataFrame, columns: tuple[Column, ...], where: str) -> pa.Table:
    """`frame` as an Arrow table of the declared columns and types; nothing is cut off or filled in.

    Raises SourceError that names the column which is absent or does not fit its type.
    """
    arrays = {column.name: _array(frame, column, where) for column in columns}
    return pa.table(arrays)


def _array(frame: pd.DataFrame, column: Column, where: str) -> pa.Array:
    if column.name not in frame:
        raise SourceError(f"{where}: column {column.name} is declared, but its reader yields only {list(frame)}")
    try:
        wanted = TYPES[column.dtype]
        if column.is_list:
            return pa.array(frame[column.name], type=wanted, from_pandas=True)
        return pa.array(frame[column.name], from_pandas=True).cast(wanted)
    except (pa.ArrowException, OverflowError) as error:
        raise SourceError(f"{where}: column {column.name} does not fit its type {column.dtype}: {error}") from error


def _spill(log: Log, path: Path, until: datetime.date | None) -> None:
    """The chunks, typed, one behind the other, each row with its position; beside them fingerprint and truth."""
    writer: pq.ParquetWriter | None = None
    position = 0
    with tqdm(desc="read", unit=" rows", unit_scale=True, total=log.rows) as bar:
        for frame in log.chunks():
            table = _before(until, _spilled(frame, log, position), log)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table)
            position += len(frame)
            bar.update(len(frame))
    if writer is not None:
        writer.close()
    if writer is None or not pq.read_metadata(path).num_rows:
        raise SourceError(f"{log.called('events')}: not a single one to read; left out: {dict(log.counts.left_out)}")


def _before(until: datetime.date | None, rows: pa.Table, log: Log) -> pa.Table:
    """The rows of the days before `until`; the others are counted as left out."""
    if until is None:
        return rows
    moments = rows[log.schema.timestamp]
    end = pa.scalar(datetime.datetime.combine(until, datetime.time(), datetime.UTC)).cast(moments.type)
    kept = rows.filter(pc.less(moments, end))
    log.counts.left_out[LATER] += len(rows) - len(kept)
    return kept


def _spilled(frame: pd.DataFrame, log: Log, position: int) -> pa.Table:
    """A chunk as it is spilled; a row of it without a moment could be put on no day."""
    schema, where = log.schema, log.called("events")
    table = typed(frame, tuple(column for column in schema.events if column.role is not Role.EVENT_ID), where)
    if nulls := table[schema.timestamp].null_count:
        raise SourceError(f"{where}: {nulls} rows have no {schema.timestamp}; their reader must leave them out")
    for extra in (name for name in frame if name == ROW or name.startswith(TRUE)):
        table = table.append_column(extra, pa.array(frame[extra]))
    return table.append_column(_POSITION, pa.array(np.arange(position, position + len(frame))))


def _write_events(schema: Schema, spill: Path, events: Path, truth: Path) -> int:
    """Sort what was spilled, number it, write it day by day and the truth beside it; returns the rows written."""
    rows = 0
    with (
        _sorted_rows(schema, spill) as reader,
        _truth(truth, schema, reader.schema.names) as truths,
        tqdm(desc="write", unit=" rows", unit_scale=True, total=pq.read_metadata(spill / EVENTS).num_rows) as bar,
    ):
        blocks = _numbered(_blocks(reader), truths)
        pieces = (piece for block in blocks for piece in _by_day(block, schema.timestamp))
        for day, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            written = _write_day(schema, (piece for _, piece in group), events / f"day={day}")
            rows += written
            bar.update(written)
    return rows


def _write_day(schema: Schema, pieces: Iterator[pa.Table], folder: Path) -> int:
    wanted = pa.schema([(column.name, TYPES[column.dtype]) for column in schema.events])
    folder.mkdir(parents=True)
    rows = 0
    with pq.ParquetWriter(folder / "part-0.parquet", wanted) as writer:
        for piece in pieces:
            writer.write_table(piece.select(wanted.names).cast(wanted))
            rows += piece.num_rows
    return rows


@contextmanager
def _sorted_rows(schema: Schema, spill: Path) -> Iterator[pa.RecordBatchReader]:
    """What was spilled, less repeated rows, in order of time and, within one moment, of the raw log."""
    source = "read_parquet(?)"
    if ROW in pq.read_schema(spill / EVENTS).names:  # the group is all columns, the fingerprint included
        source = f"(SELECT * EXCLUDE ({_POSITION}), min({_POSITION}) AS {_POSITION} FROM {source} GROUP BY ALL)"
    settings = {"memory_limit": MEMORY, "temp_directory": str(spill), "threads": str(stage.threads())}
    with duckdb.connect(config=settings) as database:  # type: ignore[arg-type]
        query = f'SELECT * FROM {source} ORDER BY "{schema.timestamp}", {_POSITION}'
        yield database.execute(query, [str(spill / EVENTS)]).to_arrow_reader(ROWS)


def _blocks(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """The same rows in tables of exactly ROWS rows (the last may be shorter): the same log gives the same bytes."""
    waiting: list[pa.RecordBatch] = []
    for batch in reader:
        waiting.append(batch)
        while sum(part.num_rows for part in waiting) >= ROWS:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, ROWS)
            waiting = table.slice(ROWS).to_batches()
    if waiting:
        yield pa.Table.from_batches(waiting)


def _numbered(blocks: Iterator[pa.Table], truths: pq.ParquetWriter) -> Iterator[pa.Table]:
    """Each block with its event ids, 0 to N - 1 over all; its truth is written on the way."""
    first, (event_id, *true) = 0, truths.schema.names
    for block in blocks:
        block = block.append_column(event_id, pa.array(np.arange(first, first + block.num_rows)))
        first += block.num_rows
        if true:
            truths.write_table(block.select([event_id, *true]))
        yield block


def _truth(path: Path, schema: Schema, found: list[str]) -> pq.ParquetWriter:
    """The file of true probabilities: event id, and whatever `p_<task>` the log carries."""
    true = [(name, pa.float64()) for name in found if name.startswith(TRUE)]
    return pq.ParquetWriter(path, pa.schema([(schema.event_id, pa.int64()), *true]))


def _by_day(block: pa.Table, timestamp: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each UTC day of a block that is in order of time."""
    days, starts = np.unique(block[timestamp].to_numpy().astype("datetime64[D]"), return_index=True)
    for day, start, end in zip(days, starts, [*starts[1:], block.num_rows], strict=True):
        yield str(day), block.slice(start, end - start)


def _write_entities(log: Log, out: Path) -> None:
    """users.parquet and items.parquet, in order of their ids."""
    for table, frame, key in (("users", log.users, log.schema.user), ("items", log.items, log.schema.item)):
        rows = typed(frame, log.schema.tables[table], log.called(table))
        pq.write_table(rows.sort_by(key), out / f"{table}.parquet", row_group_size=ROWS)


def _counts(log: Log, written: int) -> str:
    left_out = {reason: n for reason, n in sorted(log.counts.left_out.items()) if n}
    found = {
        "rows_read": log.counts.rows_read,
        "repeated_rows": log.counts.rows_read - sum(left_out.values()) - written,
        "left_out": left_out,
        "rows_written": written,
        "made_null": dict(sorted(log.counts.made_null.items())),
    }
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    stage.run(ingest)
