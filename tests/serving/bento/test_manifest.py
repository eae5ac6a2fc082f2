"""The manifest of a bento: a changed or lost file is reported before anything is served."""

from pathlib import Path

import pytest

from common.errors import ModelError
from serving.bento.manifest import check_manifest, write_manifest

pytestmark = pytest.mark.unit


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A folder with two files and their manifest."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "online.db").write_bytes(b"features")
    (tmp_path / "params.yaml").write_bytes(b"serve: {}")
    write_manifest(tmp_path)
    return tmp_path


def test_an_unchanged_folder_passes(packed: Path) -> None:
    """So does one to which Python has added compiled code, and a folder without a manifest."""
    (packed / "compiled.pyc").write_bytes(b"")
    check_manifest(packed)
    check_manifest(packed / "deep")


@pytest.mark.parametrize("name", ["deep/online.db", "params.yaml"])
def test_a_changed_byte_or_a_lost_file_is_reported(packed: Path, name: str) -> None:
    """The message names the file and what to do."""
    content = (packed / name).read_bytes()
    (packed / name).write_bytes(b"X" + content[1:])
    with pytest.raises(ModelError, match=f"{name}: expected sha256 .* run `dvc repro package`"):
        check_manifest(packed)
    (packed / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: .* found no file"):
        check_manifest(packed)
