"""The chaos benchmark sees what is broken, and fills no large disk."""

from pathlib import Path

import pytest

from benchmarks.pipeline.chaos import Case, fill_up
from benchmarks.pipeline.watch import TIMES, TINY, copied, make_tiny, write_raw


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny graph after a run."""
    make_tiny(tmp_path)
    words = (tmp_path / "tiny" / "raw").read_bytes()
    for name in TINY:
        words *= TIMES
        (tmp_path / "tiny" / name).write_bytes(words)
    return tmp_path


def test_a_part_of_an_output_is_seen(tiny: Path) -> None:
    """Whole; then cut off; then of another log."""
    assert copied(tiny)
    whole = (tiny / "tiny" / "package").read_bytes()
    (tiny / "tiny" / "package").write_bytes(whole[:-1])
    assert not copied(tiny)
    (tiny / "tiny" / "package").write_bytes(whole)
    write_raw(tiny)
    assert not copied(tiny)


def test_a_case_passes_when_nothing_is_broken() -> None:
    """One answer missed, one thing broken, a next run that failed: each is enough."""
    good = {"what": "kill", "states": ["Completed"], "next": "COMPLETED", "answers": 9}
    assert Case(**good).passed
    for bad in ({"missed": 1}, {"harm": ["dvc status: join"]}, {"next": "FAILED"}, {"states": []}):
        assert not Case(**good | bad).passed


def test_a_large_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system beyond the limit is refused, and nothing is written."""
    monkeypatch.setattr("benchmarks.pipeline.chaos.SMALLEST", 0)
    with pytest.raises(SystemExit, match="which is not filled: see --folder"):
        fill_up(tmp_path / "ballast")
    assert not (tmp_path / "ballast").exists()
