"""The chaos benchmark detects what is broken, and fills no large disk."""

from pathlib import Path

import pytest

from benchmarks.pipeline import fault_injection
from benchmarks.pipeline.chaos import Case
from benchmarks.pipeline.small_project import COPIES, TINY_STAGES, outputs_are_whole, write_raw, write_tiny_graph

pytestmark = pytest.mark.unit


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny graph after a run."""
    write_tiny_graph(tmp_path)
    words = (tmp_path / "tiny" / "raw").read_bytes()
    for name in TINY_STAGES:
        words *= COPIES
        (tmp_path / "tiny" / name).write_bytes(words)
    return tmp_path


def test_a_partial_output_is_detected(tiny: Path) -> None:
    """A whole output; then one that is cut off; then one of another log."""
    assert outputs_are_whole(tiny)
    whole = (tiny / "tiny" / "package").read_bytes()
    (tiny / "tiny" / "package").write_bytes(whole[:-1])
    assert not outputs_are_whole(tiny)
    (tiny / "tiny" / "package").write_bytes(whole)
    write_raw(tiny)
    assert not outputs_are_whole(tiny)


def test_a_case_passes_when_nothing_is_broken() -> None:
    """A missed answer, a broken output, a next run that failed, a run without a state: each of them fails a case."""
    good = {"what": "kill", "states": ["Completed"], "next": "COMPLETED", "answers": 9}
    assert Case(**good).passed
    for bad in ({"missed": 1}, {"harm": ["dvc status: join"]}, {"next": "FAILED"}, {"states": []}):
        assert not Case(**good | bad).passed


def test_a_large_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system beyond the limit is rejected, and nothing is written."""
    monkeypatch.setattr(fault_injection, "LARGEST_DISK", 0)
    with pytest.raises(SystemExit, match="which is not filled: see --folder"):
        fault_injection.fill_disk(tmp_path / "ballast")
    assert not (tmp_path / "ballast").exists()
