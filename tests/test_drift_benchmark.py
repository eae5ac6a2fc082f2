"""The benchmark of the drift report: a change that is planted in a town is found there, and nothing where none is."""

from pathlib import Path

import pytest

from benchmarks import drift
from errors import ParameterError


def test_a_town_is_quiet_until_something_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller town: nothing to act upon as it is; histories that stand still, and a unit, lead their reports."""
    monkeypatch.setattr(drift, "SIZE", drift.SIZE | {"impressions": 40_000, "users": 2_000, "items": 500})
    found = {run["kind"]: run for run in drift.town(1, frozenset({"none", "unit", drift.STALLED}))}
    assert list(found) == ["none", "unit", drift.STALLED]
    assert found["none"]["verdict"] != "act"
    assert [(found[kind]["verdict"], found[kind]["place"]) for kind in ("unit", drift.STALLED)] == [("act", 1)] * 2


def test_a_kind_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """By name, before any town is made."""
    with pytest.raises(ParameterError, match=r"--only none,flood: \['flood'\] are none of"):
        drift.drift(seeds=1, only="none,flood", json=tmp_path / "drift.json")
    assert not list(tmp_path.iterdir())
