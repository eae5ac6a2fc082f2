"""Official archives: where the archive of a log is, its download, and checked reading of the files in it."""

import csv
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pooch
import pyarrow as pa

from common.errors import SourceError
from common.files import replacing
from common.paths import ARCHIVES

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
    RuntimeError,  # zipfile's, of a member that seems to be encrypted or compressed by an unknown method
)
_FOREIGN = (ValueError, OverflowError, TypeError, csv.Error)  # pandas' and Arrow's errors are ValueErrors, too


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An official archive: file name, address, and the MD5 sum that its publisher (or its mirrors) names."""

    name: str
    url: str
    md5: str


def find(archive: Archive, folder: str) -> Path:
    """The archive in `folder` (dataset.path); in the project's own folder, ARCHIVES, it is downloaded once.

    An archive that is there is taken as it is. Raises SourceError, which says which file is expected where.
    """
    if Path(folder) != ARCHIVES:
        return find_file(Path(folder), (archive.name,), archive.url)
    path = ARCHIVES / archive.name
    if not path.is_file():
        _download(archive, path)
    return path


def find_file(folder: Path, names: tuple[str, ...], url: str) -> Path:
    """The first of the files `names` that is in `folder` (dataset.path); raises SourceError if there is none."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    content = sorted(entry.name for entry in folder.iterdir())[:10] if folder.is_dir() else "no such folder"
    expected = " or ".join(names)
    raise SourceError(
        f"dataset.path is {folder}, but there is no {expected} in it (found: {content}).\n"
        f"dataset.path must name the folder that holds the official {expected}, from {url}"
    )


def _download(archive: Archive, path: Path) -> None:
    """Download `archive` to `path`, which is complete and has the right checksum, or does not exist."""
    try:
        with replacing(path) as partial:
            print(f"downloading {archive.url}", flush=True)
            pooch.HTTPDownloader(progressbar=True, chunk_size=_BLOCK, timeout=_TIMEOUT)(archive.url, str(partial), None)
            _check_md5(archive, partial)
    except OSError as error:
        raise SourceError(
            f"{archive.name} is neither in {ARCHIVES} nor could it be downloaded from {archive.url} ({error}).\n"
            f"Without a network: put {archive.name} into a folder of yours and set dataset.path to that folder, "
            f"or put it into {path.parent.absolute()}"
        ) from error


def _check_md5(archive: Archive, path: Path) -> None:
    if (md5 := pooch.file_hash(str(path), alg="md5")) != archive.md5:
        raise SourceError(
            f"{archive.url} gave a file that is not {archive.name}: MD5 {archive.md5} expected, {md5} found.\n"
            "Run again; if the error persists, the address serves another file: download by hand and set dataset.path"
        )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn every exception that a broken archive raises within the block into a SourceError that names it."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} holds text that is not UTF-8 ({error})") from error
    except _UNREADABLE as error:
        raise SourceError(
            f"{path} cannot be read to its end: truncated, or not an archive of this kind ({error!r})"
        ) from error
    except _FOREIGN as error:
        raise SourceError(f"{path} holds a file that is not in its official layout ({error})") from error


def require(path: Path, present: set[str], needed: set[str]) -> None:
    """Raise a SourceError that names the files which the archive should hold and does not."""
    if missing := sorted(needed - present):
        raise SourceError(
            f"{path} lacks {', '.join(missing)}: not the official archive, or not all of it.\n"
            f"It holds {', '.join(sorted(present)[:10]) or 'nothing'}"
        )


def require_columns(path: Path, name: str, present: set[str], needed: set[str]) -> None:
    """Raise a SourceError that names the columns which a file of the archive should have and does not."""
    if missing := sorted(needed - present):
        raise SourceError(f"{path}: {name} lacks the columns {missing}; it has {sorted(present)}")


class _TextStream(io.RawIOBase):
    """A stream of bytes that refuses a zero byte: pandas would take it for the end of a cell, and read on."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        if b"\0" in block:
            raise ValueError("it contains zero bytes: not text")
        buffer[: len(block)] = block
        return len(block)


def text(stream: IO[bytes]) -> io.BufferedReader:
    """The same stream; reading it raises ValueError at a zero byte."""
    return io.BufferedReader(_TextStream(stream), _BLOCK)


def table(stream: IO[bytes], types: dict[str, Any]) -> pd.DataFrame:
    """The columns `types` of a CSV file in UTF-8, in this order; raises ValueError where a line is not as its header.

    pandas truncates a line that is too long and fills up one that is too short; here both are refused, line by line.
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
    """Numbers as integers; raises ValueError where one is missing, too large or not a whole number."""
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
