"""Parquet files that lie elsewhere: the manifest that stands for them in the workspace, and how they are read.

A stage on Spark may leave its rows under `engine.storage`, as the files that the executors wrote. Its folder then holds
manifest.json, by which DVC knows them: for each Parquet file that would be there, the files that hold its rows, in
order, with size, version and rows. Nothing is ever overwritten, and a file that is another one since is an error.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import EngineError
from common.files import write_text

MANIFEST = "manifest.json"


def add_to_manifest(path: Path, urls: Sequence[str]) -> int:
    """Let `urls` stand for the Parquet file `path` in the manifest of its folder; returns the number of their rows."""
    manifest = path.parent / MANIFEST
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    files = [{"url": url, **_state(url), "rows": _row_count(url)} for url in urls]
    write_text(manifest, json.dumps(known | {path.name: files}, indent=1, sort_keys=True) + "\n")
    return sum(file["rows"] for file in files)


def files_of(path: Path) -> list[str]:
    """The paths of the files that hold the rows of a Parquet file of the workspace: its own, or those of a manifest.

    Raises EngineError where a file of the manifest is missing, or is another one since the manifest was written.
    """
    manifest = path.parent / MANIFEST
    if path.exists() or not manifest.exists():
        return [str(path)]
    files = json.loads(manifest.read_text(encoding="utf-8")).get(path.name)
    if files is None:
        return [str(path)]
    for file in files:
        _check(manifest, file)
    return [_local(file["url"]) for file in files]


def is_stored(path: Path) -> bool:
    """Whether a manifest stands for a Parquet file of the workspace."""
    return files_of(path) != [str(path)]


def row_count(path: Path) -> int:
    """The number of rows of a Parquet file of the workspace."""
    return sum(int(pq.read_metadata(file).num_rows) for file in files_of(path))


def read_schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file of the workspace."""
    return pq.read_schema(files_of(path)[0])


def read_batches(path: Path, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file of the workspace in batches of at most `rows`."""
    for file in files_of(path):
        yield from pq.ParquetFile(file).iter_batches(rows, columns=columns)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """The rows of a Parquet file of the workspace."""
    return pa.concat_tables([pq.ParquetFile(file).read(columns) for file in files_of(path)])


def _check(manifest: Path, file: dict[str, Any]) -> None:
    try:
        now = _state(file["url"])
    except FileNotFoundError:
        now = None
    recorded = {"bytes": file["bytes"], "version": file["version"]}
    if now != recorded:
        raise EngineError(
            f"{file['url']} is not the file that {manifest} is of: expected {recorded}, found {now or 'no file'}. "
            "Somebody exchanged or removed it; run the stage again, `dvc repro --force` with its name"
        )


def _state(url: str) -> dict[str, Any]:
    """Size and version of a file: its ETag where the storage has one, else the time of its last change."""
    storage, path = fsspec.url_to_fs(url)
    info = storage.info(path)
    return {"bytes": info["size"], "version": str(info.get("ETag") or info["mtime"])}


def _row_count(url: str) -> int:
    with fsspec.open(url) as file:
        return int(pq.read_metadata(file).num_rows)


def _local(url: str) -> str:
    path: str = fsspec.url_to_fs(url)[1]
    return path
