"""The command `features.draft`: vectors, by lists and texts of a fixed length, and positions, by their names."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.datasets import declared
from features.draft import draft
from tests.support import small_log

pytestmark = pytest.mark.unit


def line_of(folder: Path, name: str, *files: str) -> str:
    """The line of a column in the draft of these files, which is `drafted.yaml`."""
    draft(*(str(folder / file) for file in files), out=folder / "drafted.yaml")
    lines = (line.strip() for line in (folder / "drafted.yaml").read_text().splitlines())
    return next(line for line in lines if line.startswith(f"{name}: "))


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([[0.5, 1.5], [1.0, 2.0], None], "image: {kind: vector, length: 2, nullable: true} # lists of 2 numbers"),
        (["[0.5, 1]", "[-1e-3, 2]", "[1, 2]"], "image: {kind: vector, length: 2} # lists of 2 numbers"),
        ([[0.5], [1.0, 2.0], [3.0]], "image: {kind: multi_valued"),
        ([[1, 2], [3, 4], [5, 6]], "image: {kind: multi_valued, type: int64_list"),
    ],
)
def test_lists(tmp_path: Path, values: list[Any], line: str) -> None:
    """Numbers with a fraction, as many in each row, are a vector; integers, or lists of several lengths, are none."""
    events = small_log.frames(rows=300)["events"]
    events["image"] = [values[index % 3] for index in range(300)]
    events.to_parquet(tmp_path / "events.parquet")
    assert line_of(tmp_path, "image", "events.parquet").startswith(line)


def test_arrays(tmp_path: Path) -> None:
    """An array of DuckDB's type DOUBLE[n] is a vector, and the draft of it is read as one."""
    small_log.write(tmp_path)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(120) / 7), 3)
    pq.write_table(pa.table({"video": np.arange(1, 41), "image": vectors}), tmp_path / "items.parquet")
    line = line_of(tmp_path, "image", "log_1.csv", "log_2.csv", "items.parquet")
    assert line.startswith("image: {kind: vector, length: 3}")
    log = declared.read(small_log.dataset(tmp_path / "drafted.yaml"))
    (image,) = (column for column in log.schema.items if column.name == "image")
    assert (image.dtype, image.length) == ("float32_list", 3)
    assert pa.array(log.items["image"]).to_pylist()[1] == [np.float32(n / 7) for n in (3, 4, 5)]


@pytest.mark.parametrize("name", ["position", "rank", "item_pos", "slot"])
def test_positions(tmp_path: Path, name: str) -> None:
    """Integers from 0 or 1 whose name is that of a place in a list; the draft is read as it is."""
    events = small_log.frames(rows=300)["events"]
    events[name] = 1 + np.arange(300) % 7
    events.to_parquet(tmp_path / "events.parquet")
    line = line_of(tmp_path, name, "events.parquet")
    assert line.startswith(f"{name}: position # 1 to 7, and its name is that of a place in a list; DECIDE")
    assert declared.read(small_log.dataset(tmp_path / "drafted.yaml")).schema.position == name
