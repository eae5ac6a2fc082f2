"""The ranking benchmark: every way is timed, and all give the same logits."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.serving import ranking as benchmark
from common.paths import ROOT

pytestmark = pytest.mark.integration


def test_the_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny sizes it times every way for each network, number of items and of threads; their logits are equal."""
    monkeypatch.chdir(ROOT)
    before = torch.get_num_threads()
    benchmark.ranking(
        json=tmp_path / "made" / "ranking.json", items=(3, 5), threads=(1,), rounds=2, users=20, catalogue=9
    )
    requests = json.loads((tmp_path / "made" / "ranking.json").read_text())["requests"]
    assert [(request["network"], request["items"]) for request in requests] == [
        ("params.yaml", 3),
        ("params.yaml", 5),
        ("the authors'", 3),
        ("the authors'", 5),
    ]
    assert all(difference < 1e-5 for request in requests for difference in request["largest_difference"].values())
    assert all(set(request["median"]) == {"plain", "kept", "fresh"} for request in requests)
    assert torch.get_num_threads() == before
