"""A bento is what was packed, or it is not served."""

from pathlib import Path

import pytest

from common.errors import ModelError
from serving.manifest import check_manifest, write_manifest


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A folder with two files and their manifest."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "online.db").write_bytes(b"features")
    (tmp_path / "params.yaml").write_bytes(b"serve: {}")
    write_manifest(tmp_path)
    return tmp_path


def test_what_was_packed_passes(packed: Path) -> None:
    """And so does a folder beside which Python wrote its compiled code, and one that never had a manifest."""
    (packed / "compiled.pyc").write_bytes(b"")
    check_manifest(packed)
    check_manifest(packed / "deep")


@pytest.mark.parametrize("name", ["deep/online.db", "params.yaml"])
def test_one_changed_byte_or_a_lost_file_is_told(packed: Path, name: str) -> None:
    """Which file, and what to do."""
    whole = (packed / name).read_bytes()
    (packed / name).write_bytes(b"X" + whole[1:])
    with pytest.raises(ModelError, match=f"{name}: expected sha256 .* run `dvc repro package`"):
        check_manifest(packed)
    (packed / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: .* found no file"):
        check_manifest(packed)
