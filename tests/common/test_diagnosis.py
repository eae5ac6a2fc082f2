"""A command that a file or the disk stops says so; a fault of the program keeps its traceback."""

import errno
import io
import json
import os
import sqlite3
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from common.diagnosis import CHECKS, REASONS, damage_of, explain

pytestmark = pytest.mark.unit


def parquet() -> bytes:
    """A table of two rows."""
    stream = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), stream)
    return stream.getvalue()


def numpy() -> bytes:
    """An array of 100 numbers."""
    stream = io.BytesIO()
    np.save(stream, np.arange(100))
    return stream.getvalue()


def archive() -> bytes:
    """A zip archive with one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a", "text")
    return stream.getvalue()


def checkpoint() -> bytes:
    """A file of torch."""
    stream = io.BytesIO()
    torch.save({"a": torch.arange(10)}, stream)
    return stream.getvalue()


def database() -> bytes:
    """A database of SQLite with one table of 500 rows."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table t (a)")
        connection.executemany("insert into t values (?)", [(str(number) * 20,) for number in range(500)])
        connection.commit()
        return connection.serialize()


WHOLE = {
    ".json": json.dumps({"a": [1, 2, 3]}).encode(),
    ".parquet": parquet(),
    ".npy": numpy(),
    ".npz": archive(),
    ".zip": archive(),
    ".pt": checkpoint(),
    ".db": database(),
    ".safetensors": save({"a": torch.arange(10)}),
}


@pytest.mark.parametrize(("folder", "reason"), [(False, errno.EACCES), (True, errno.EISDIR)])
def test_a_database_that_sqlite_does_not_name_is_named(tmp_path: Path, folder: bool, reason: int) -> None:
    """It is the only one among the options; a folder in its place is no closed file."""
    database = tmp_path / "online.db"
    database.mkdir() if folder else database.touch()
    fault = sqlite3.OperationalError("unable to open database file")
    options = {"features": tmp_path / "features", "online": database}
    assert explain(fault, options) == f"{database} (--online) {REASONS[reason]}"


def test_every_check_has_an_example() -> None:
    """No kind of file is checked without a test."""
    assert set(CHECKS) == set(WHOLE)


@pytest.mark.parametrize("suffix", WHOLE)
def test_a_whole_file_is_not_damaged(tmp_path: Path, suffix: str) -> None:
    """A file as its library writes it has no damage."""
    (tmp_path / f"a{suffix}").write_bytes(WHOLE[suffix])
    assert damage_of(tmp_path / f"a{suffix}") is None


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("share", [0, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_damaged(tmp_path: Path, suffix: str, share: float) -> None:
    """A file that was cut off, wherever, is damaged, and nothing is raised."""
    content = WHOLE[suffix]
    (tmp_path / f"a{suffix}").write_bytes(content[: int(len(content) * share)])
    assert damage_of(tmp_path / f"a{suffix}")


@given(st.sampled_from(sorted(WHOLE)), st.binary(min_size=1, max_size=200))
def test_garbage_is_no_fault_of_the_check(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    """For any bytes there is an answer: damaged, or (JSON only, by chance) not."""
    path = tmp_path_factory.getbasetemp() / f"garbage{suffix}"
    path.write_bytes(content)
    assert damage_of(path) or suffix == ".json"


@pytest.mark.parametrize("number", REASONS, ids=errno.errorcode.get)
def test_an_error_of_the_system_names_file_option_and_remedy(tmp_path: Path, number: int) -> None:
    """The sentence begins with the file and the option that it comes from."""
    fault = OSError(number, os.strerror(number), str(tmp_path / "out" / "a.json"))
    said = explain(fault, {"plots_out": tmp_path / "out", "rows": 5})
    assert said == f"{tmp_path / 'out' / 'a.json'} (--plots-out) {REASONS[number]}"


def test_too_little_memory_names_the_setting() -> None:
    """DuckDB with a limit that a list exceeds; the error may be the cause of another one."""
    with duckdb.connect(config={"memory_limit": "10MB"}) as connection, pytest.raises(duckdb.Error) as raised:
        connection.execute("select max(len(all_of)) from (select list(range) as all_of from range(2_000_000))")
    wrapped = RuntimeError("the join failed")
    wrapped.__cause__ = raised.value
    for fault in (raised.value, wrapped):
        said = explain(fault, {})
        assert said is not None
        assert "set HINET_MEMORY to more" in said


def test_a_damaged_input_is_named_with_the_error(tmp_path: Path) -> None:
    """Any error beside a damaged file below an option is explained by that file; the error is kept in the sentence."""
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.parquet").write_bytes(WHOLE[".parquet"][:50])
    said = explain(KeyError("x"), {"tables": [tmp_path]})
    assert said is not None
    assert "b.parquet (--tables" in said
    assert "is damaged: it is not a whole Parquet file" in said
    assert "KeyError" in said


def test_a_fault_of_the_program_is_not_explained(tmp_path: Path) -> None:
    """Beside whole files an error keeps its traceback; so does an error of the system that is no file's."""
    (tmp_path / "b.parquet").write_bytes(WHOLE[".parquet"])
    assert explain(KeyError("x"), {"tables": tmp_path, "missing": tmp_path / "no", "name": "a"}) is None
    assert explain(ConnectionResetError(errno.ECONNRESET, "reset"), {}) is None
