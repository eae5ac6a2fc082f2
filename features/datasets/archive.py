"""Where the official archive of a log comes from: a folder of yours, the one kept here, or its own address."""

import csv
import hashlib
import io
import lzma
import struct
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from common.errors import SourceError

KEPT = Path("data/archives")  # where a download stays
_BLOCK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # zipfile's, of a member that seems to be encrypted or packed in a way of its own
)
_FOREIGN = (ValueError, OverflowError, TypeError, csv.Error)  # pandas' and Arrow's own errors are ValueErrors, too


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An official archive: file name, address, and the MD5 sum that its publisher (or its mirrors) name."""

    name: str
    url: str
    md5: str


def find(archive: Archive, folder: str) -> Path:
    """The archive in `folder` (dataset.path); it is downloaded once where that is the project's own, KEPT.

    Raises SourceError that says which file to put where.
    """
    if Path(folder) != KEPT:
        return given(Path(folder), (archive.name,), archive.url)
    kept = KEPT / archive.name
    return kept if kept.is_file() else _download(archive, kept)


def given(folder: Path, names: tuple[str, ...], url: str) -> Path:
    """The first of the files `names` that is in `folder` (dataset.path); raises SourceError if there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = sorted(entry.name for entry in folder.iterdir())[:10] if folder.is_dir() else "no such folder"
    wanted = " or ".join(names)
    raise SourceError(
        f"dataset.path is {folder}, but there is no {wanted} in it (found: {there}).\n"
        f"dataset.path must name the folder that holds the official {wanted}, from {url}"
    )


def _download(archive: Archive, kept: Path) -> Path:
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(kept.name + ".part")
    try:
        _fetch(archive, part)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SourceError(
            f"{archive.name} is neither in {KEPT} nor could it be downloaded from {archive.url} ({error}).\n"
            f"Without a network: put {archive.name} into a folder of yours and set dataset.path to that folder, "
            f"or put it into {kept.parent.absolute()}"
        ) from error
    if (found := digest(part)) != archive.md5:
        part.unlink()
        raise SourceError(
            f"{archive.url} gave a file that is not {archive.name}: MD5 {archive.md5} expected, {found} found.\n"
            "Run again; if it stays so, the address serves something else: download by hand and set dataset.path"
        )
    part.replace(kept)
    return kept


def _fetch(archive: Archive, part: Path) -> None:
    with urllib.request.urlopen(archive.url, timeout=_TIMEOUT) as answer, part.open("wb") as file:
        size = int(answer.headers.get("Content-Length") or 0) or None
        with tqdm(total=size, desc=f"download {archive.name}", unit="B", unit_scale=True) as bar:
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))


def digest(path: Path) -> str:
    """MD5 sum of a file, as publishers name it beside their archives."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a broken archive raises within the block into a SourceError that names the archive."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} holds text that is not UTF-8 ({error})") from error
    except _UNREADABLE as error:
        raise SourceError(f"{path} cannot be read to its end: truncated, or no such archive ({error!r})") from error
    except _FOREIGN as error:
        raise SourceError(f"{path} holds a file that is not in its official layout ({error})") from error


def require(path: Path, found: set[str], needed: set[str]) -> None:
    """Raises SourceError that names the files which the archive should hold and does not."""
    if missing := sorted(needed - found):
        raise SourceError(
            f"{path} lacks {', '.join(missing)}: not the official archive, or not all of it.\n"
            f"It holds {', '.join(sorted(found)[:10]) or 'nothing'}"
        )


def require_columns(path: Path, name: str, found: set[str], needed: set[str]) -> None:
    """Raises SourceError that names the columns which a file of the archive should have and does not."""
    if missing := sorted(needed - found):
        raise SourceError(f"{path}: {name} lacks the columns {missing}; it has {sorted(found)}")


class _Text(io.RawIOBase):
    """A stream of bytes without a zero byte: pandas would take it for the end of a cell, and read on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        if b"\0" in block:
            raise ValueError("zero bytes in it: no text")
        buffer[: len(block)] = block
        return len(block)


def text(stream: IO[bytes]) -> io.BufferedReader:
    """The same stream; reading it raises ValueError at a zero byte."""
    return io.BufferedReader(_Text(stream), _BLOCK)


def table(stream: IO[bytes], types: dict[str, Any]) -> pd.DataFrame:
    """The columns `types` of a CSV file in UTF-8, in this order; raises ValueError where a line is not as its header.

    pandas cuts a line that is too long and fills up one that is too short; here both are refused, line by line.
    """
    content = text(stream).read().decode()
    lines = csv.reader(io.StringIO(content, newline=""), strict=True)
    header = next(lines, [])
    if missing := sorted(types.keys() - set(header)):
        raise ValueError(f"a header lacks the columns {missing}; it has {header}")
    for fields in lines:
        if fields and len(fields) != len(header):
            raise ValueError(f"line {lines.line_num} has {len(fields)} fields, its header {len(header)}")
    return pd.read_csv(io.StringIO(content), usecols=list(types), dtype=types)[list(types)]


def refuse_longer(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`; raises ValueError where pandas took the first fields of lines that are too long for an index."""
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"lines have more fields than the {len(frame.columns)} of the header")
    return frame


def whole(values: pd.Series, dtype: str = "int64") -> pd.Series:
    """Numbers as integers; raises ValueError where one is missing, too large or not whole: nothing is cut off."""
    return pd.Series(pa.array(values.to_numpy()).cast(dtype).to_numpy(), index=values.index, name=values.name)


@contextmanager
def tar_text(path: Path, name: str) -> Iterator[io.BufferedReader]:
    """The one file called `name` (whatever its folder) within a tar archive, as a stream of bytes."""
    with tarfile.open(path, "r:*") as tar:
        for member in tar:
            if member.isfile() and Path(member.name).name == name:
                yield tar.extractfile(member)  # type: ignore[misc]
                return
    raise SourceError(f"{path} lacks {name}: not the official archive, or not all of it")
