"""The command `python -m benchmarks.accuracy`, with runs in their own processes."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.__main__ import accuracy

pytestmark = pytest.mark.process


def test_the_command_trains_and_reports(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed of two models on a small archive: a finite AUC in every cell that has one, printed and written.

    A row with neighbours goes the same way, and its facts say so.
    """
    out = tmp_path / "table.json"
    models = "shared_mlp,mmoe (neighbours)"
    accuracy(dataset="movielens-1m", path=archive, models=models, seeds=1, processes=1, json=out)
    rows = json.loads(out.read_text())["models"]
    printed = capsys.readouterr().out
    assert list(rows) == models.split(",")
    for name, row in rows.items():
        assert all(0 <= cell["mean"] <= 1 for cell in row["cells"].values())
        assert row["samples_per_second"] > 0
        assert row["parameters"] > 0
        assert name in printed
    assert rows["mmoe (neighbours)"]["row"]["neighbours"] is True
