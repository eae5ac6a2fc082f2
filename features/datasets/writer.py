"""A raw log as Parquet files: events by day, typed, in order of time and numbered; users and items by id.

Memory does not grow with the log. Logs are not always in order of time, so chunks are typed and spilled to one file;
DuckDB sorts it within a fixed memory limit (the rest goes to disk) and returns the rows in order; they are numbered and
written day by day as they come. One pass, however many days there are.
"""

import datetime
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from common.errors import SourceError
from features.datasets.log import ROW, TRUE, Log
from features.datasets.timestamps import check_century
from features.datasets.typed_columns import typed_table
from features.engine import sql
from features.engine.arrow_types import arrow_schema
from features.engine.blocks import blocks
from features.engine.connection import connect
from features.schema import Role, Schema

ROWS = 131_072  # of a row group, and of what is in memory at once
MEMORY_SHARE = 1 / 8  # of DuckDB, while it sorts: blocks of rows and the reader of the log need more
SPILLED = "events.parquet"
LATER = "on dataset.until or later"
_POSITION = "__position"  # of a row in the raw log: the order of rows with one timestamp


def write_events(log: Log, until: datetime.date | None, out: Path, truth: Path) -> int:
    """Write the events of the days before `until` by day under `out`/events, and their true probabilities to `truth`.

    Returns the number of rows written; counts rows that repeat another one in `log.counts`. Raises SourceError where a
    value does not fit its type, most timestamps are of another unit, or no event remains.
    """
    with _spill_folder(out) as spill:
        _spill(log, spill / SPILLED, until)
        log.counts.repeats_kept = _count_repeats(spill)
        return _write_sorted(log.schema, spill, out / "events", truth)


def write_entities(log: Log, out: Path) -> None:
    """Write users.parquet and items.parquet under `out`, in order of their ids."""
    for table, frame, key in (("users", log.users, log.schema.user), ("items", log.items, log.schema.item)):
        rows = typed_table(frame, log.schema.tables[table], log.called(table))
        pq.write_table(rows.take(pc.sort_indices(rows[key])), out / f"{table}.parquet", row_group_size=ROWS)


@contextmanager
def _spill_folder(out: Path) -> Iterator[Path]:
    """A folder next to `out`, on the same disk, removed afterwards; that of a killed run is removed first."""
    spill = out.with_name(out.name + ".spill")
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir()
    try:
        yield spill
    finally:
        shutil.rmtree(spill)


def _spill(log: Log, path: Path, until: datetime.date | None) -> None:
    """Write the typed chunks to one file, each row with its position, and its fingerprint and truth where known."""
    writer: pq.ParquetWriter | None = None
    position = 0
    with tqdm(desc="read", unit=" rows", unit_scale=True, total=log.rows) as bar:
        for frame in _chunks(log):
            table = _before(until, _spilled(frame, log, position), log)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd", compression_level=1)
            writer.write_table(table)
            position += len(frame)
            bar.update(len(frame))
    if writer is not None:
        writer.close()
    if writer is None or not pq.read_metadata(path).num_rows:
        raise SourceError(f"{log.called('events')}: not a single one to read; left out: {dict(log.counts.left_out)}")


def _chunks(log: Log) -> Iterator[pd.DataFrame]:
    """The chunks of the log; what pandas raises at a timestamp beyond its range becomes a SourceError."""
    try:
        yield from log.chunks()
    except pd.errors.OutOfBoundsDatetime as error:
        raise SourceError(
            f"{log.called('events')}: its reader converts numbers to timestamps in another unit than theirs ({error}). "
            "Convert them with features.datasets.timestamps.from_epoch, which names the unit that they look like"
        ) from error


def _before(until: datetime.date | None, rows: pa.Table, log: Log) -> pa.Table:
    """The rows of the days before `until`; the others are counted as left out."""
    if until is None:
        return rows
    timestamps = rows[log.schema.timestamp]
    end = pa.scalar(datetime.datetime.combine(until, datetime.time(), datetime.UTC)).cast(timestamps.type)
    kept = rows.filter(pc.less(timestamps, end))
    log.counts.left_out[LATER] += len(rows) - len(kept)
    return kept


def _spilled(frame: pd.DataFrame, log: Log, position: int) -> pa.Table:
    """A chunk as it is spilled; a row without a timestamp would belong to no day and is an error."""
    schema, where = log.schema, log.called("events")
    columns = tuple(column for column in schema.events if column.role is not Role.EVENT_ID or log.has_event_ids)
    table = typed_table(frame, columns, where, first_row=position)
    if nulls := table[schema.timestamp].null_count:
        raise SourceError(f"{where}: {nulls} rows have no {schema.timestamp}; their reader must leave them out")
    (timestamp,) = schema.by_role(Role.TIMESTAMP)
    if timestamp.minimum is None and timestamp.maximum is None:  # else the quality gate holds them against these
        check_century(table[timestamp.name], timestamp.name, where)
    for extra in (name for name in map(str, frame) if name in {ROW, *_truths(schema)}):
        table = table.append_column(extra, pa.array(frame[extra]))
    return table.append_column(_POSITION, pa.array(np.arange(position, position + len(frame))))


def _count_repeats(spill: Path) -> int:
    """The number of spilled rows that repeat another one in every column, where no fingerprint says which do."""
    names = pq.read_schema(spill / SPILLED).names
    if ROW in names:
        return 0
    columns = sql.columns(name for name in names if name != _POSITION)
    query = f"select count(*) as __rows from {sql.parquet(spill / SPILLED)} group by hash({columns}) having __rows > 1"
    with connect(spill, share=MEMORY_SHARE) as connection:
        (repeats,) = connection.execute(f"select coalesce(sum(__rows - 1), 0) from ({query})").fetchone() or (0,)
    return int(repeats)


def _write_sorted(schema: Schema, spill: Path, events: Path, truth: Path) -> int:
    """Sort the spilled rows, number them, write them day by day, and the truth; returns the rows written."""
    rows = 0
    with (
        _sorted_rows(schema, spill) as reader,
        _truth(truth, schema, reader.schema.names) as truths,
        tqdm(desc="write", unit=" rows", unit_scale=True, total=pq.read_metadata(spill / SPILLED).num_rows) as bar,
    ):
        numbered = _numbered(blocks(reader, ROWS), truths)
        pieces = (piece for block in numbered for piece in _by_day(block, schema.timestamp))
        for day, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            written = _write_day(schema, (piece for _, piece in group), events / f"day={day}")
            rows += written
            bar.update(written)
    return rows


def _write_day(schema: Schema, pieces: Iterator[pa.Table], folder: Path) -> int:
    types = arrow_schema(schema.events)
    folder.mkdir(parents=True)
    rows = 0
    with pq.ParquetWriter(folder / "part-0.parquet", types) as writer:
        for piece in pieces:
            writer.write_table(piece.select(types.names).cast(types))
            rows += piece.num_rows
    return rows


@contextmanager
def _sorted_rows(schema: Schema, spill: Path) -> Iterator[pa.RecordBatchReader]:
    """The spilled rows without duplicates, in order of time and, within one timestamp, of the raw log."""
    source = sql.parquet(spill / SPILLED)
    if ROW in pq.read_schema(spill / SPILLED).names:  # the group is all columns, the fingerprint included
        source = f"(select * exclude ({_POSITION}), min({_POSITION}) as {_POSITION} from {source} group by all)"
    with connect(spill, share=MEMORY_SHARE) as connection:
        query = f"select * from {source} order by {sql.column(schema.timestamp)}, {_POSITION}"
        yield connection.execute(query).to_arrow_reader(ROWS)


def _numbered(blocks: Iterator[pa.Table], truths: pq.ParquetWriter) -> Iterator[pa.Table]:
    """Each block with its event ids, its own or 0 to N - 1 over all; its true probabilities are written to `truths`."""
    first, (event_id, *true) = 0, truths.schema.names
    for block in blocks:
        if event_id not in block.column_names:
            block = block.append_column(event_id, pa.array(np.arange(first, first + block.num_rows)))
        first += block.num_rows
        if true:
            truths.write_table(block.select([event_id, *true]))
        yield block


def _truths(schema: Schema) -> set[str]:
    """The names of the columns with true probabilities that a log may have; a declared column is no such column."""
    return {TRUE + name for name in schema.output_names} - {column.name for column in schema.events}


def _truth(path: Path, schema: Schema, columns: list[str]) -> pq.ParquetWriter:
    """A writer of the true probabilities: event id, and every column `p_<task>` of the log."""
    true = [(name, pa.float64()) for name in columns if name in _truths(schema)]
    return pq.ParquetWriter(path, pa.schema([(schema.event_id, pa.int64()), *true]))


def _by_day(block: pa.Table, timestamp: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each UTC day of a block that is in order of time."""
    days, starts = np.unique(block[timestamp].to_numpy().astype("datetime64[D]"), return_index=True)
    for day, start, end in zip(days, starts, [*starts[1:], block.num_rows], strict=True):
        yield str(day), block.slice(start, end - start)
