"""The benchmark of the drift report: a planted shift is detected, and there is no alarm without one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.drift.__main__ import drift
from benchmarks.drift.planted_shifts import RANK, STALLED, Results, run_kinds
from benchmarks.drift.simulated_log import MATURE, YOUNG
from common.errors import ParameterError

pytestmark = pytest.mark.integration

SMALLER = {"impressions": 40_000, "users": 2_000, "items": 500}
LAYOUT = replace(MATURE, size=MATURE.size | SMALLER)


def test_a_planted_shift_is_the_first_finding() -> None:
    """On a smaller log: no act without a shift; features that are not refreshed, and another unit, are found first."""
    runs = {run["kind"]: run for run in run_kinds(1, frozenset({"none", "unit", STALLED}), LAYOUT)}
    assert list(runs) == ["none", "unit", STALLED]
    assert runs["none"]["verdict"] != "act"
    assert [(runs[kind]["verdict"], runs[kind][RANK]) for kind in ("unit", STALLED)] == [("act", 1)] * 2


@pytest.mark.slow
def test_a_young_log_without_a_change_is_not_at_act() -> None:
    """Of 20 logs of ten days, of few users, of many, and of items shown evenly, at most one; each has a verdict."""
    kinds = list(YOUNG)
    runs = [run for seed in range(1, 21) for run in run_kinds(seed, frozenset({kinds[seed % len(kinds)]}))]
    assert len(runs) == 20
    assert {run["verdict"] for run in runs} <= {"ok", "watch", "act"}
    assert sum(run["verdict"] == "act" for run in runs) <= 1, [run for run in runs if run["verdict"] == "act"]


def test_an_unknown_kind_is_rejected(tmp_path: Path) -> None:
    """By its name, before any log is simulated."""
    with pytest.raises(ParameterError, match=r"--only none,flood: \['flood'\] are none of"):
        drift(seeds=1, only="none,flood", json=tmp_path / "drift.json")
    assert not list(tmp_path.iterdir())


def test_results_in_the_file_are_not_computed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Kind by kind, not log by log; and the table has no row for a kind without results."""
    runs = [{"seed": 1, "kind": kind, "verdict": "ok", RANK: None} for kind in ("none", "unit")]
    path = tmp_path / "drift.json"
    path.write_text(json.dumps({"size": MATURE.size, "runs": [*runs, {"seed": 2, "kind": "mix"}]}))
    assert Results(path).kinds(1) == {"none", "unit"}
    path.write_text(json.dumps({"size": MATURE.size, "runs": runs}))
    before = path.read_bytes()
    drift(seeds=1, only="none,unit", json=path)
    assert path.read_bytes() == before
    rows = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert rows == ["none", "unit"]
