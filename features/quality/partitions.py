"""A table as Parquet files: read in batches of bounded size, written by day, same rows -> same bytes.

Events lie in `events/day=YYYY-MM-DD/part-0.parquet`, users and items in one file each.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common.errors import ValidationError
from features.engine.arrow_types import TYPES
from features.schema import INNER, DType

FILE_DAY = INNER + "day of the file"  # column of a batch: midnight (UTC) of the day that a row's file is named for
_TIMESTAMP = TYPES[DType.TIMESTAMP]
_BROKEN = (pa.ArrowException, duckdb.Error, OSError, UnicodeDecodeError)  # what reading a broken file raises
_NO_DAY = datetime(1970, 1, 1)  # of a folder that names no day, in which no event lies


def files(folder: Path, table: str) -> list[Path]:
    """The files of `table` under `folder` in order of their days; empty where there are none."""
    if table != "events":
        return [path for path in [folder / f"{table}.parquet"] if path.is_file()]
    return sorted((folder / "events").glob("day=*/*.parquet"))


@contextmanager
def reading(paths: Sequence[Path]) -> Iterator[None]:
    """Turn every exception that a broken Parquet file raises within the block into a ValidationError that names it."""
    try:
        yield
    except _BROKEN as error:
        broken = next(filter(_fault, paths), None)
        named = broken or ", ".join(map(str, paths))
        raise ValidationError(
            f"{named} cannot be read: truncated, not Parquet, or with text that is not UTF-8 "
            f"({(_fault(broken) if broken else None) or error}).\n"
            "It is not as `ingest` wrote it: run `dvc repro --force ingest`, or fix the other program that writes there"
        ) from error


def _fault(path: Path) -> str | None:
    """Why the file cannot be read to its end, or None."""
    try:
        with pq.ParquetFile(path) as opened:
            for group in range(opened.num_row_groups):
                part = opened.read_row_group(group)
                part.validate(full=True)
                part.schema.names  # noqa: B018  # raises where a name is not UTF-8
    except _BROKEN as error:
        return str(error)
    return None


def type_name(stored: pa.DataType) -> str:
    """Name of an Arrow type; that of a list has the type of its elements, not their name in the file."""
    return f"list<{stored.value_type}>" if pa.types.is_list(stored) else str(stored)


def structure(path: Path) -> dict[str, str]:
    """The columns of a file and the names of their types; empty where there is no file."""
    if not path.is_file():
        return {}
    with reading([path]):
        return columns_of(pq.read_schema(path))


def columns_of(schema: pa.Schema) -> dict[str, str]:
    """The columns of a file and the names of their types."""
    return {column.name: type_name(column.type) for column in schema}


def batches(paths: list[Path], rows: int) -> Iterator[pa.Table]:
    """The rows of the files in order, about `rows` at a time (whole row groups), with the column FILE_DAY."""
    parts: list[pa.Table] = []
    for path in paths:
        for part in _groups(path):
            parts.append(_with_day(part, path))
            if sum(part.num_rows for part in parts) >= rows:
                yield pa.concat_tables(parts).combine_chunks()
                parts = []
    if parts:
        yield pa.concat_tables(parts).combine_chunks()


def _groups(path: Path) -> Iterator[pa.Table]:
    """The row groups of a file, each checked: Arrow accepts any bytes as text."""
    with reading([path]), pq.ParquetFile(path) as opened:
        for group in range(opened.num_row_groups):
            part = opened.read_row_group(group).replace_schema_metadata()  # pandas writes its own metadata
            part.validate(full=True)
            yield part


def count(paths: list[Path]) -> int:
    """The number of rows of the files, read from their footers."""
    with reading(paths):
        return sum(pq.read_metadata(path).num_rows for path in paths)


def _with_day(part: pa.Table, path: Path) -> pa.Table:
    return part.append_column(FILE_DAY, pa.repeat(pa.scalar(_day(path), _TIMESTAMP), part.num_rows))


def _day(path: Path) -> datetime:
    try:
        return datetime.strptime(path.parent.name.removeprefix("day="), "%Y-%m-%d")
    except ValueError:
        return _NO_DAY


class Writer:
    """Writes the rows of a table batch by batch: events by day in ascending order, others into one file."""

    def __init__(self, folder: Path, table: str, stored: pa.Schema) -> None:
        self._folder, self._table, self._schema = folder, table, stored
        self._day = _NO_DAY
        self._file = None if table == "events" else self._open(folder / f"{table}.parquet")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def write(self, batch: pa.Table) -> None:
        """Append rows with the column FILE_DAY, which is not written: the path holds it."""
        if self._table != "events":
            return self._append(batch)
        for day in pc.unique(batch[FILE_DAY]).to_pylist():
            if day != self._day:
                self._close()
                path = self._folder / "events" / f"day={day:%Y-%m-%d}" / "part-0.parquet"
                self._day, self._file = day, self._open(path)
            self._append(batch.filter(pc.equal(batch[FILE_DAY], pa.scalar(day, _TIMESTAMP))))
        return None

    def _append(self, rows: pa.Table) -> None:
        if self._file is not None and rows.num_rows:
            self._file.write_table(rows.select(self._schema.names).cast(self._schema))

    def _open(self, path: Path) -> pq.ParquetWriter:
        path.parent.mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(path, self._schema)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
