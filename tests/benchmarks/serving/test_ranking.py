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
        ("hinet_plus", 3),
        ("hinet_plus", 5),
        ("the authors'", 3),
        ("the authors'", 5),
    ]
    assert all(difference < 1e-5 for one in results for difference in one["largest_difference"].values())
    assert all(set(one["median"]) == {"plain", "kept", "fresh"} for one in results)
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_exported_and_compiled_programs_are_timed_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --exported two modes more, with the same logits."""
    monkeypatch.chdir(ROOT)
    ranking(json=tmp_path / "ranking.json", items=(3, 5), threads=(1,), rounds=2, users=20, catalogue=9, exported=True)
    for one in json.loads((tmp_path / "ranking.json").read_text())["requests"]:
        assert set(one["median"]) == {"plain", "kept", "fresh", "exported", "compiled"}
        assert max(one["largest_difference"].values()) < 1e-5
