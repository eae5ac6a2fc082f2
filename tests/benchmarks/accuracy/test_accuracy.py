"""The command `python -m benchmarks.accuracy`, with runs in their own processes."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.__main__ import accuracy

pytestmark = pytest.mark.process


def test_the_command_trains_a_row_with_neighbours(archive: Path, tmp_path: Path) -> None:
    """A row with neighbours goes the same way, and its facts say so."""
    out = tmp_path / "table.json"
    accuracy(dataset="movielens-1m", path=archive, models="mmoe (neighbours)", seeds=1, processes=1, json=out)
    row = json.loads(out.read_text())["models"]["mmoe (neighbours)"]
    assert row["row"]["neighbours"] is True
    assert row["parameters"] > 0


def test_the_command_trains_and_reports(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed of a small model on a small archive: a finite AUC in every cell that has one, printed and written."""
    out = tmp_path / "table.json"
    accuracy(dataset="movielens-1m", path=archive, models="shared_mlp", seeds=1, processes=1, json=out)
    row = json.loads(out.read_text())["models"]["shared_mlp"]
    assert all(0 <= cell["mean"] <= 1 for cell in row["cells"].values())
    assert row["samples_per_second"] > 0
    assert "shared_mlp" in capsys.readouterr().out
