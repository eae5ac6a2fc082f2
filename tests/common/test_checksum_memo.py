"""Checksums that are remembered: the same as without a memo, and an unchanged file is read once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from common import checksum_memo
from common.checksum_memo import ChecksumMemo
from common.files import sha256_of, sha256_of_folder

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two files."""
    (tmp_path / "files").mkdir()
    for name in ("one", "two"):
        (tmp_path / "files" / name).write_text(name)
    return tmp_path / "files"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the files whose bytes were read; no file is too young to be remembered."""
    names: list[str] = []

    def reading(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(checksum_memo, "sha256_of", reading)
    monkeypatch.setattr(checksum_memo, "SETTLED_SECONDS", -60.0)
    return names


def remembered(folder: Path) -> str:
    """The checksum of the folder by a memo, as a new process reads and leaves it."""
    memo = ChecksumMemo(folder.with_name("memo.json"))
    digest = sha256_of_folder(folder, memo.sha256_of)
    memo.write()
    return digest


def test_an_unchanged_file_is_read_once(folder: Path, read: list[str]) -> None:
    """The second time no byte is read, and the checksum is that of the bytes."""
    assert remembered(folder) == remembered(folder) == sha256_of_folder(folder)
    assert read == ["one", "two"]


@pytest.mark.parametrize("change", ["content", "content of the same length and time", "replaced", "renamed"])
def test_a_changed_file_is_read_again(folder: Path, read: list[str], change: str) -> None:
    """Whatever changes: the checksum is that of the bytes as they are."""
    remembered(folder)
    file, status = folder / "two", (folder / "two").stat()
    if change == "renamed":
        file.rename(folder / "three")
    elif change == "replaced":
        (folder / "new").write_text("new")
        (folder / "new").replace(file)
    else:
        file.write_text("more" if change == "content" else "too")
    if "time" in change:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert remembered(folder) == sha256_of_folder(folder)
    assert len(read) == 3


def test_a_file_of_this_second_is_not_remembered(folder: Path) -> None:
    """It may change again within one tick of the clock of the file system."""
    remembered(folder)
    assert not folder.with_name("memo.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"one": 1}', "\x93"])
def test_a_damaged_memo_costs_time_only(folder: Path, read: list[str], content: str) -> None:
    """It is as if there were none."""
    folder.with_name("memo.json").write_text(content, encoding="latin-1")
    assert remembered(folder) == sha256_of_folder(folder)
    assert read == ["one", "two"]
