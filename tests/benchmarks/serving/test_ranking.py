"""The benchmark of the scoring modes."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.serving.ranking import ranking
from common.paths import ROOT

pytestmark = pytest.mark.integration


def test_every_mode_is_timed_and_agrees_with_the_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each network, number of items and of threads; the number of torch threads is restored."""
    monkeypatch.chdir(ROOT)
    before = torch.get_num_threads()
    out = tmp_path / "made" / "ranking.json"
    ranking(json=out, items=(3, 5), threads=(1,), rounds=2, users=20, catalogue=9)
    results = json.loads(out.read_text())["requests"]
    assert [(one["network"], one["items"]) for one in results] == [
        ("params.yaml", 3),
        ("params.yaml", 5),
        ("the authors'", 3),
        ("the authors'", 5),
    ]
    assert all(difference < 1e-5 for one in results for difference in one["largest_difference"].values())
    assert all(set(one["median"]) == {"plain", "kept", "fresh"} for one in results)
    assert torch.get_num_threads() == before
