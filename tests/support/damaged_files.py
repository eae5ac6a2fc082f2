"""Damaged raw archives and Parquet files: rows, cells and bytes that are broken in known ways."""

import dataclasses
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from features.engine.arrow_types import TYPES
from features.schema import DType
from tests.support import broken_tables, kuairand_archive, movielens_archive, rich_world, tenrec_file

SCHEMA = rich_world.rich_schema()
FUTURE, PAST = "4102444800", "-86400"  # 2100 and 1969, in seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
    """One text of an archive: the columns of its lines that are numbers, and the one that is the timestamp."""

    name: str
    text: str
    separator: str
    header: bool
    numbers: tuple[int, ...]
    timestamp: int | None = None
    left_out: int = 0  # rows at the end that are not damaged

    def changed(self, how: str, line: int, cell: int) -> str | None:
        """The text with one of its rows broken; None: without the file."""
        if how in ("missing", "empty"):
            return None if how == "missing" else ""
        lines = self.text.splitlines()
        if how == "header":
            return "\n".join(lines[1:] if self.header else [self.separator.join("abcdefgh"), *lines]) + "\n"
        last = len(lines) - self.left_out
        index = self.header + line % (last - self.header)
        lines[index] = self._row(lines[index], how, cell)
        return "\n".join(lines) + "\n"

    def _row(self, row: str, how: str, cell: int) -> str:
        if how in ("long", "twice"):
            return f"{row}{self.separator}7" if how == "long" else f"{row}\n{row}"
        fields = row.split(self.separator)
        if how == "short":
            return self.separator.join(fields[: max(1, self.numbers[-1])])
        scale = "000" if self.separator == "," else ""  # milliseconds
        if how in ("future", "past"):
            fields[self.timestamp] = (FUTURE if how == "future" else PAST) + scale
        else:
            fields[self.numbers[cell % len(self.numbers)]] = CELLS[how]
        return self.separator.join(fields)


CELLS = {"word": "seven", "fraction": "1.5", "huge": "1" + "0" * 30, "not UTF-8": "\udcff\udcfe", "zero byte": "1\0"}
ROWS = ("long", "short", "twice", "header", "missing", "empty", *CELLS)
TIMESTAMPS = ("future", "past")


def _dat(name: str, text: str, numbers: tuple[int, ...], **more: Any) -> Text:
    return Text(name=name, text=text, separator="::", header=False, numbers=numbers, **more)


def _csv(name: str, text: str, numbers: tuple[int, ...], **more: Any) -> Text:
    return Text(name=name, text=text, separator=",", header=True, numbers=numbers, **more)


TEXTS = {
    "movielens-1m": (
        _dat("ratings", movielens_archive.RATINGS, (0, 1, 2, 3), timestamp=3, left_out=1),
        _dat("users", movielens_archive.USERS, (0, 2, 3)),
        _dat("movies", movielens_archive.MOVIES, (0,)),
    ),
    "kuairand-pure": (
        _csv("log_standard_4_08_to_4_21_pure", kuairand_archive.FIRST, (0, 1, 4, 5, 18), timestamp=4),
        _csv("log_standard_4_22_to_5_08_pure", kuairand_archive.SECOND, (0, 1, 4, 5, 18), timestamp=4, left_out=1),
        _csv("user_features_pure", kuairand_archive.USERS.replace('"[100,1k)"', "a").replace('"[30,60)"', "b"), (0, 2)),
        _csv("video_features_basic_pure", kuairand_archive.VIDEOS.replace('"20,43"', "20"), (0, 1)),
    ),
    "tenrec-qk-video": (_csv("rows", f"{tenrec_file.COLUMNS}\n{tenrec_file.ROWS}", (0, 1, 2, 8, 9, 10)),),
}


def write(folder: Path, name: str, changes: dict[str, str | None]) -> Path:
    """The archive of a data set with some of its texts exchanged."""
    if name == "tenrec-qk-video":
        texts = {text.name: text.text for text in TEXTS[name]} | changes
        with zipfile.ZipFile(folder / "Tenrec.zip", "w", zipfile.ZIP_DEFLATED) as made:
            if texts["rows"] is not None:
                made.writestr("Tenrec/ctr_data_1M.csv", texts["rows"].encode(errors="surrogateescape"))
        return folder / "Tenrec.zip"
    maker = movielens_archive if name == "movielens-1m" else kuairand_archive
    return maker.write(folder, **{text.name: text.text for text in TEXTS[name]} | changes)


def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A truncation or a flipped bit at a random position, an empty file, or random bytes."""
    how = draw(st.sampled_from(["cut", "flip", "flip", "empty", "garbage"]))
    position = draw(st.floats(0, 1, width=32))
    bit = 1 << draw(st.integers(0, 7))

    def cut(content: bytes) -> bytes:
        return content[: int(position * (len(content) - 1))]

    def flip(content: bytes) -> bytes:
        at = int(position * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]

    return {
        "cut": cut,
        "flip": flip,
        "empty": lambda _: b"",
        "garbage": lambda c: random.Random(position).randbytes(len(c)),
    }[how]


TYPED = {column.name: column for column in SCHEMA.events + SCHEMA.users + SCHEMA.items}
STRINGS = [column.name for column in TYPED.values() if column.dtype is DType.STRING]
SPOILED = {  # what happens to a table, and the columns in which it can happen and is a fault
    "twice": ("event_id", "user_id", "item_id"),
    "more": (*TYPED,),
    "absent": (*TYPED,),
    "type": (*TYPED,),
    "null": tuple(name for name, column in TYPED.items() if not column.nullable),
    "not UTF-8": tuple(STRINGS),
    "foreign": ("scenario", "hour", "click", "order", "level", "price"),
    "future": ("timestamp",),
    "far future": ("timestamp",),
    "past": ("timestamp",),
}
FOREIGN = {DType.STRING: "moon", DType.INT64: 99, DType.INT8: 9, DType.FLOAT32: -1.0}
MICROSECONDS = {"future": int(FUTURE) * 10**6, "far future": 10**18, "past": int(PAST) * 10**6}


def spoiled(rows: pa.Table, how: str, name: str) -> pa.Table:
    """The rows of a file with one of them, or a column, broken."""
    if how in ("twice", "more", "absent"):
        wider = rows.append_column("more", rows[name]) if how == "more" else rows.drop_columns(name)
        return pa.concat_tables([rows, rows.slice(0, 1)]) if how == "twice" else wider
    values, kind = rows[name], TYPES[TYPED[name].dtype]
    if how == "type":
        changed = values.cast(broken_tables.OTHER_TYPE[TYPED[name].dtype])
    elif how == "not UTF-8":
        binary = pa.array([b"\xff\xfe", *values.cast(pa.binary()).to_pylist()[1:]], pa.binary())
        changed = pa.Array.from_buffers(pa.string(), len(binary), binary.buffers())
    elif how in MICROSECONDS:
        changed = pa.array([MICROSECONDS[how], *values.cast(pa.int64()).to_pylist()[1:]]).cast(kind)
    else:
        first = None if how == "null" else FOREIGN[TYPED[name].dtype]
        changed = pa.array([first, *values.to_pylist()[1:]], kind)
    return rows.set_column(rows.column_names.index(name), name, changed)


def names(table: str) -> list[str]:
    """The columns of a table."""
    return [column.name for column in SCHEMA.tables[table]]


def rows_of(path: Path) -> pa.Table:
    """The rows of one file."""
    return pq.ParquetFile(path).read()
