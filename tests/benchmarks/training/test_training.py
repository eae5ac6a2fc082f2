"""The command `python -m benchmarks.training` on tiny sizes."""

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.training import __main__ as command
from benchmarks.training import speed, workload
from models.networks.cpu_kernels import ONEDNN_BFLOAT16
from tests.support.small_shape import SHAPE

pytestmark = pytest.mark.process


def test_the_report_has_every_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tiny sizes the command measures each variant and sweep, prints them and writes them."""
    monkeypatch.setattr(workload, "BATCH", 32)
    monkeypatch.setattr(workload, "RECIPE", dataclasses.replace(workload.RECIPE, batch_size=32))
    monkeypatch.setattr(workload, "SIZES", {"small, 3 scenarios": SHAPE})
    monkeypatch.setattr(workload, "IDS", (80, 160))
    monkeypatch.setattr(command, "ROWS_ON_DISK", (10_000,))
    command.training(json=tmp_path / "t.json", rounds=1, rows=100)
    report = json.loads((tmp_path / "t.json").read_text())
    size = report["sizes"]["small, 3 scenarios"]
    assert set(size["samples_per_second"]) == {
        "ours",
        "loop and loader",
        "loop, rows in memory",
        "forward and backward",
        "limit",
        *(("ours, bfloat16",) if ONEDNN_BFLOAT16 else ()),
    }
    assert all(rate > 0 for rate in [*size["samples_per_second"].values(), *report["sweeps"].values()])
    assert all(size[name] > 0 for name in speed.RATIOS)
    assert report["memory_megabytes"]["10,000 rows"] > 0
    assert {"ids 160, lazy tables", "ids 160, dense tables", "threads 1"} <= set(report["sweeps"])
