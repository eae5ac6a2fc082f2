"""The fixture of the tests that release a challenger."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Iterator[Path]:
    """A project after the pipeline, in Git, with uncommitted work in tree and index; the current folder."""
    from tests.support.release_project import release_project

    with release_project(project, tmp_path / "project") as folder:
        yield folder
