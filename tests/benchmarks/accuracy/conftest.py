"""The small MovieLens archive, and the folder that the benchmark prepares from it."""

from pathlib import Path

import pytest


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder with a small ml-1m.zip."""
    from tests.support.small_movielens import write_archive

    write_archive(tmp_path)
    return tmp_path


@pytest.fixture
def prepared(archive: Path, tmp_path: Path) -> Path:
    """A folder with the encoded rows of the small archive, by the published protocol."""
    from benchmarks.accuracy.protocols import prepare

    prepare("movielens-1m", archive, None, tmp_path / "out")
    return tmp_path / "out"
