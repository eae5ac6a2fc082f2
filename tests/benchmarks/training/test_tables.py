"""The command `python -m benchmarks.training.tables` on tiny tables."""

import json
from pathlib import Path

import pytest

from benchmarks.training import tables


@pytest.mark.process
@pytest.mark.slow
def test_every_kind_is_measured_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process has no sharded tables, two have; what needs more memory than there is is not run."""
    monkeypatch.chdir(tmp_path)
    tables.tables(json=tmp_path / "t.json", rows=[8_000, 10**12], processes=[1, 2], steps=1)
    report = json.loads((tmp_path / "t.json").read_text())
    kinds = ["dense", "sparse", "dense", "sparse", "sharded"]
    assert [run["kind"] for run in report] == kinds * 2
    assert all(run["cpu_ms"] > 0 and run["megabytes"] > 0 for run in report[: len(kinds)])
    assert all(run["not_run"].endswith(" GB") for run in report[len(kinds) :])
