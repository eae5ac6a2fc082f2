"""Files are whole or absent, checksums name their content, and a lock is held by one process."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.files import (
    exclusive_lock,
    partial_of,
    replacing,
    replacing_folder,
    sha256_of,
    sha256_of_folder,
    write_text,
)
from common.paths import ROOT

pytestmark = pytest.mark.unit


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    """Until then a reader sees the old content; afterwards nothing is left beside it."""
    path = tmp_path / "folder" / "file"
    write_text(path, "old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_after_an_exception_a_file_is_as_it_was(tmp_path: Path) -> None:
    """Neither the content that was begun nor its temporary file remains."""
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert path.read_text() == "old"
    assert not partial_of(path).exists()


def fail_halfway(path: Path) -> None:
    """Write half of a file, then raise ZeroDivisionError."""
    with replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    """Files of the old folder are gone; what a killed run left at the temporary path is removed."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("")
    partial_of(folder).mkdir()
    (partial_of(folder) / "left").write_text("")
    with replacing_folder(folder) as partial:
        (partial / "new").write_text("")
        assert (folder / "old").exists()
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_after_an_exception_a_folder_is_as_it_was(tmp_path: Path) -> None:
    """The old files stay, the temporary folder goes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("")
    with pytest.raises(ZeroDivisionError), replacing_folder(folder):
        raise ZeroDivisionError
    assert [file.name for file in folder.iterdir()] == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    """Held against hashlib on the whole content."""
    (tmp_path / "file").write_bytes(b"content")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()


def test_the_checksum_of_a_folder_names_content_and_names(tmp_path: Path) -> None:
    """Another name or another byte is another checksum; what Python compiled there does not count."""
    (tmp_path / "one").write_text("1")
    first = sha256_of_folder(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "one.pyc").write_text("compiled")
    assert sha256_of_folder(tmp_path) == first
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    assert sha256_of_folder(tmp_path.with_name("copy")) == first
    (tmp_path / "one").rename(tmp_path / "two")
    renamed = sha256_of_folder(tmp_path)
    (tmp_path / "two").write_text("2")
    assert len({first, renamed, sha256_of_folder(tmp_path)}) == 3


HOLDER = """
import sys, time
from pathlib import Path
from common.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.process
def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    """While another process holds it, BlockingIOError names the file; after its kill -9 the lock is free."""
    path = tmp_path / "folder" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=str(path)), exclusive_lock(path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with exclusive_lock(path):
        pass
    with exclusive_lock(path, wait=True):
        pass
