"""benchmarks/accuracy/worlds.py: networks on simulated platforms whose effects nobody has chosen."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.worlds import summarize, worlds


@pytest.mark.unit
def test_the_best_model_comes_first_with_its_lead() -> None:
    """Mean, worlds in which it is the best, and the paired difference to the first model with its standard error."""
    means = {"a": [0.8, 0.7], "b": [0.78, 0.72], "c": [0.7, 0.6], "best possible": [0.9, 0.8]}
    assert summarize(means) == [
        ("best possible", pytest.approx(0.85), "", ""),
        ("a", pytest.approx(0.75), "1", ""),
        ("b", pytest.approx(0.75), "1", "+0.0000 ± 0.0200"),
        ("c", pytest.approx(0.65), "0", "+0.1000 ± 0.0000"),
    ]


@pytest.mark.slow
@pytest.mark.process
def test_every_world_has_its_own_rows_and_table(tmp_path: Path) -> None:
    """Two worlds of two models: four runs that are kept, other results in each world, all below the best possible."""
    out = tmp_path / "worlds.json"
    worlds(models="shared_mlp,mmoe", worlds=2, impressions=20_000, processes=2, json=out)
    means = json.loads(out.read_text())
    assert list(means) == ["shared_mlp", "mmoe", "best possible"]
    assert all(first != second for first, second in means.values())
    assert all(mean < limit for mean, limit in zip(means["mmoe"], means["best possible"], strict=True))
    assert [len(json.loads((tmp_path / f"worlds-{world}.json").read_text())["runs"]) for world in (1, 2)] == [2, 2]
