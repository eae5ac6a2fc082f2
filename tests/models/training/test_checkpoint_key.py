"""The name of a checkpoint follows from the rows, which a start reads only where they are new."""

import shutil
from pathlib import Path

import pytest

from common import checksum_memo
from models.training.train_model import CHECKSUMS, _checkpoints, _row_files
from tests.support.training import small_hinet, train_settings

pytestmark = pytest.mark.unit


def names_of(arguments: dict[str, Path]) -> list[str]:
    """The names of the checkpoints of both passes of a run on these rows."""
    files = _row_files(arguments["tensors"], None, train_settings())
    passes = _checkpoints(arguments["checkpoints"], small_hinet(), {"model": "hinet"}, files, train_settings())
    return [checkpoint.path.name for checkpoint in passes if checkpoint is not None]


@pytest.fixture
def of_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test writes count as old enough to be remembered."""
    monkeypatch.setattr(checksum_memo, "SETTLED_SECONDS", -60.0)


@pytest.mark.usefixtures("of_long_ago")
def test_a_second_start_reads_no_row(stage_arguments: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor is hashed once, for both passes; the next start, or the next process, hashes none."""
    hashed: list[str] = []
    real = checksum_memo.sha256_of
    monkeypatch.setattr(checksum_memo, "sha256_of", lambda file: hashed.append(file.name) or real(file))
    first = names_of(stage_arguments)
    assert len(hashed) == len(_row_files(stage_arguments["tensors"], None, train_settings()))
    assert names_of(stage_arguments) == first
    assert len(set(first)) == 2
    assert len(hashed) == len(set(hashed)) * 2  # train and valid


@pytest.mark.usefixtures("of_long_ago")
def test_rows_of_the_same_size_and_time_are_others(stage_arguments: dict[str, Path]) -> None:
    """One byte of a label changed, the file's times set back: the run has another checkpoint."""
    first, labels = names_of(stage_arguments), stage_arguments["tensors"] / "train" / "labels.npy"
    kept = stage_arguments["tensors"] / "kept.npy"
    shutil.copy2(labels, kept)
    content = bytearray(labels.read_bytes())
    content[-1] ^= 1
    labels.write_bytes(content)
    shutil.copystat(kept, labels)
    assert not set(names_of(stage_arguments)) & set(first)


@pytest.mark.usefixtures("of_long_ago")
def test_without_its_memo_a_start_reads_all_rows(stage_arguments: dict[str, Path]) -> None:
    """A memo that is missing or damaged costs time only: the checkpoint is that of before."""
    first = names_of(stage_arguments)
    (stage_arguments["checkpoints"] / CHECKSUMS).write_text("{")
    assert names_of(stage_arguments) == first
