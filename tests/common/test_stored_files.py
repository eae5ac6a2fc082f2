"""Files that lie elsewhere are read through their manifest, and not if somebody exchanged one."""

import json
import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common import stored_files as stored
from common.errors import EngineError
from common.files import sha256_of
from common.stored_files import StoredFile
from features.engine import sql

pytestmark = pytest.mark.unit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A Parquet file of a workspace for which two files elsewhere stand, with the numbers 0 to 4 and 5 to 9."""
    written = []
    for part in range(2):
        file = tmp_path / "bucket" / "x.parquet" / f"part-{part}, [a]*.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"n": range(5 * part, 5 * part + 5), "text": ["a"] * 5}), file)
        written.append(StoredFile(f"file://{file}", 5, sha256_of(file)))
    path = tmp_path / "data" / "x.parquet"
    assert stored.add_to_manifest(path, written) == 10
    return path


def entries(path: Path) -> list[StoredFile]:
    """What the manifest has for a file."""
    known = json.loads((path.parent / stored.MANIFEST).read_text())[path.name]
    return [StoredFile(one["url"], one["rows"], one["sha256"]) for one in known]


def test_the_rows_are_those_of_all_files_in_order(path: Path) -> None:
    """SQL, batches, tables, counts and columns are of all files."""
    assert duckdb.sql(f"select n from {sql.parquet(path)}").fetchall() == [(n,) for n in range(10)]
    assert [batch.num_rows for batch in stored.read_batches(path, 3, ["n"])] == [3, 2, 3, 2]
    assert stored.read_table(path, ["n"])["n"].to_pylist() == list(range(10))
    assert stored.row_count(path) == 10
    assert stored.read_schema(path).names == ["n", "text"]
    assert stored.is_stored(path)


def test_a_file_of_the_workspace_is_read_itself(path: Path) -> None:
    """Where the file is there, and for one that the manifest does not name, no manifest counts."""
    other = path.with_name("y.parquet")
    assert stored.files_of(other) == [str(other)]
    pq.write_table(pa.table({"n": [7]}), path)
    assert stored.read_table(path)["n"].to_pylist() == [7]
    assert not stored.is_stored(path)


def test_a_second_file_joins_the_manifest(path: Path) -> None:
    """A manifest is of all Parquet files of its folder, and the same bytes for the same files."""
    written = entries(path)
    before = (path.parent / stored.MANIFEST).read_bytes()
    assert stored.add_to_manifest(path.with_name("y.parquet"), written[:1]) == 5
    assert stored.row_count(path) == 10
    (path.parent / stored.MANIFEST).unlink()
    stored.add_to_manifest(path, written)
    assert (path.parent / stored.MANIFEST).read_bytes() == before


@pytest.mark.parametrize("change", ["removed", "of another size", "written again"])
def test_an_exchanged_file_is_named(path: Path, change: str) -> None:
    """A file that is missing, has another size, or was written again is an error with its name and the next step."""
    file = Path(entries(path)[1].url.removeprefix("file://"))
    if change == "removed":
        file.unlink()
    elif change == "of another size":
        pq.write_table(pa.table({"n": [1], "text": ["b"]}), file)
    else:
        os.utime(file, (1, 1))
    with pytest.raises(EngineError, match=r"part-1.* is not the file that .*manifest\.json is of") as error:
        sql.parquet(path)
    assert "dvc repro --force" in str(error.value)
    assert ("found no file" in str(error.value)) == (change == "removed")


def test_a_process_looks_at_a_file_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Size and version are compared at the first reading; a stage reads a file hundreds of times."""
    looked: list[str] = []
    state = stored._state
    monkeypatch.setattr(stored, "_state", lambda url: looked.append(url) or state(url))
    for _ in range(3):
        assert stored.row_count(path) == 10
    assert looked == [file.url for file in entries(path)]
    assert stored.checksums(path) == [file.sha256 for file in entries(path)]
