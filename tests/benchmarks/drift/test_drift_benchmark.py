"""The benchmark of the drift report: a change that is planted in a town is found there, and nothing where none is."""

import json
from pathlib import Path

import pytest

from benchmarks.drift import benchmark
from common.errors import ParameterError


def test_a_town_is_quiet_until_something_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller town: nothing to act upon as it is; histories that stand still, and a unit, lead their reports."""
    monkeypatch.setattr(benchmark, "SIZE", benchmark.SIZE | {"impressions": 40_000, "users": 2_000, "items": 500})
    found = {run["kind"]: run for run in benchmark.town(1, frozenset({"none", "unit", benchmark.STALLED}))}
    assert list(found) == ["none", "unit", benchmark.STALLED]
    assert found["none"]["verdict"] != "act"
    assert [(found[kind]["verdict"], found[kind]["place"]) for kind in ("unit", benchmark.STALLED)] == [("act", 1)] * 2


def test_a_kind_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """By name, before any town is made."""
    with pytest.raises(ParameterError, match=r"--only none,flood: \['flood'\] are none of"):
        benchmark.drift(seeds=1, only="none,flood", json=tmp_path / "drift.json")
    assert not list(tmp_path.iterdir())


def test_what_stands_in_the_file_is_not_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind by kind, not town by town; and the table has no row for a kind of which there is no town."""
    runs = [{"seed": 1, "kind": kind, "verdict": "ok", "place": None} for kind in ("none", "unit")]
    assert benchmark.kinds_of([*runs, {"seed": 2, "kind": "mix"}], 1) == {"none", "unit"}
    kept = tmp_path / "drift.json"
    kept.write_text(json.dumps({"size": benchmark.SIZE, "runs": runs}))
    before = kept.read_bytes()
    benchmark.drift(seeds=1, only="none,unit", json=kept)
    assert kept.read_bytes() == before
    rows = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert rows == ["none", "unit"]
