"""Parquet files that lie elsewhere: the manifest that stands for them in the workspace, and how they are read.

A stage on Spark may leave its rows under `engine.storage`, on a disk that all machines mount or in a bucket. Its folder
then holds manifest.json, by which DVC knows them: for each Parquet file that would be there, the files that hold its
rows, in order, with size, version, rows and checksum. Nothing is ever overwritten, and a file that is another one since
is an error.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import EngineError
from common.files import write_text

MANIFEST = "manifest.json"


class StoredFile(NamedTuple):
    """A Parquet file that was written under a URL: its rows, and the SHA-256 of its bytes."""

    url: str
    rows: int
    sha256: str


def write_file(url: str, types: pa.Schema, tables: Iterable[pa.Table]) -> StoredFile:
    """Write tables to the Parquet file under a URL, by way of the disk, so that it is whole or absent in a bucket."""
    rows = 0
    with TemporaryDirectory() as folder:
        local = Path(folder) / "part.parquet"
        with pq.ParquetWriter(local, types) as file:
            for table in tables:
                file.write_table(table)
                rows += table.num_rows
        storage, path = fsspec.url_to_fs(url, **({} if is_url(url) else {"auto_mkdir": True}))
        storage.put_file(str(local), path)
        with local.open("rb") as content:
            return StoredFile(url, rows, hashlib.file_digest(content, "sha256").hexdigest())


def add_to_manifest(path: Path, stored: Sequence[StoredFile]) -> int:
    """Let files elsewhere stand for the Parquet file `path` in the manifest of its folder; returns their rows."""
    manifest = path.parent / MANIFEST
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    files = [{**file._asdict(), **_state(file.url)} for file in stored]
    write_text(manifest, json.dumps(known | {path.name: files}, indent=1, sort_keys=True) + "\n")
    return sum(file.rows for file in stored)


def files_of(path: Path) -> list[str]:
    """The files that hold the rows of a Parquet file of the workspace: itself, or those of a manifest, paths or URLs.

    Raises EngineError where a file of the manifest is missing, or is another one since the manifest was written; each
    file is looked at once by a process.
    """
    files = _stored(path)
    if files is None:
        return [str(path)]
    for file in files:
        _check(path.parent / MANIFEST, file["url"], file["bytes"], file["version"])
    return [_local(file["url"]) for file in files]


def is_stored(path: Path) -> bool:
    """Whether a manifest stands for a Parquet file of the workspace."""
    return _stored(path) is not None


def checksums(path: Path) -> list[str]:
    """The SHA-256 of each file that a manifest has for a Parquet file of the workspace."""
    return [file["sha256"] for file in _stored(path) or ()]


def row_count(path: Path) -> int:
    """The number of rows of a Parquet file of the workspace."""
    total = 0
    for name in files_of(path):
        with open_parquet(name) as file:
            total += file.metadata.num_rows
    return total


def read_schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file of the workspace."""
    return schema_of(files_of(path)[0])


def schema_of(name: str) -> pa.Schema:
    """The columns of the Parquet file under a path or URL."""
    with open_parquet(name) as file:
        return file.schema_arrow


def read_batches(path: Path, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file of the workspace in batches of at most `rows`."""
    for name in files_of(path):
        with open_parquet(name) as file:
            yield from file.iter_batches(rows, columns=columns)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a Parquet file of the workspace."""
    return pa.concat_tables([_read(name, columns) for name in files_of(path)])


@contextmanager
def open_parquet(name: str) -> Iterator[pq.ParquetFile]:
    """The Parquet file under a path or URL."""
    if not is_url(name):
        with pq.ParquetFile(name) as file:
            yield file
        return
    with fsspec.open(name) as stream, pq.ParquetFile(stream, pre_buffer=True) as file:
        yield file


def is_url(name: str) -> bool:
    """Whether a name of `files_of` is no path of this machine."""
    return name.startswith("s3://")


def check_storage(url: str) -> None:
    """Raise EngineError where the bucket of a URL cannot be read; of a disk nothing is checked."""
    if not is_url(url):
        return
    storage, path = fsspec.url_to_fs(url)
    try:
        storage.ls(path.split("/")[0])
    except Exception as error:  # of botocore, aiohttp or the operating system
        raise EngineError(
            f"the bucket of engine.storage {url} cannot be read: {str(error) or type(error).__name__}. It needs a "
            "bucket that exists, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a role), and AWS_ENDPOINT_URL where "
            "the service is not that of AWS"
        ) from error


def _stored(path: Path) -> list[dict[str, Any]] | None:
    """What a manifest has for a Parquet file of the workspace; None where the file is there, or no manifest has it."""
    manifest = path.parent / MANIFEST
    if path.exists() or not manifest.exists():
        return None
    files: list[dict[str, Any]] | None = json.loads(manifest.read_text(encoding="utf-8")).get(path.name)
    return files


def _read(name: str, columns: list[str] | None) -> pa.Table:
    with open_parquet(name) as file:
        return file.read(columns)


@cache
def _check(manifest: Path, url: str, size: int, version: str) -> None:
    try:
        now = _state(url)
    except FileNotFoundError:
        now = None
    recorded = {"bytes": size, "version": version}
    if now != recorded:
        raise EngineError(
            f"{url} is not the file that {manifest} is of: expected {recorded}, found {now or 'no file'}. "
            "Somebody exchanged or removed it; run the stage again, `dvc repro --force` with its name"
        )


def _state(url: str) -> dict[str, Any]:
    """Size and version of a file: its ETag where the storage has one, else the time of its last change."""
    storage, path = fsspec.url_to_fs(url)
    info = storage.info(path, refresh=True)
    return {"bytes": info["size"], "version": str(info.get("ETag") or info["mtime"])}


def _local(url: str) -> str:
    path: str = url if is_url(url) else fsspec.url_to_fs(url)[1]
    return path
