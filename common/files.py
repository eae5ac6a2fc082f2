"""Files that are whole or absent, their checksums, and locks between processes."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

PARTIAL = ".partial"  # ends the name of what is not whole yet; a kill can leave it behind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which replaces `path` when the block ends.

    A reader sees the old file or the new one: the bytes are on the disk before the rename. After an exception `path`
    is as it was.
    """
    partial = partial_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except OSError as error:
        _add_name(error, path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces the folder `path` when the block ends.

    After an exception `path` is as it was. A kill between the removal and the rename leaves no folder `path`.
    """
    partial = partial_of(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.rename(path)
    except OSError as error:
        _add_name(error, path)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _add_name(error: OSError, path: Path) -> None:
    """The error of a full disk knows no file: it is of the one that was written."""
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT) and error.filename is None:
        error.filename = str(path)


def partial_of(path: Path) -> Path:
    """The hidden path beside `path` at which its next content is written."""
    return path.with_name(f".{path.name}{PARTIAL}")


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text`; its folder is made where there is none."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sync(path: Path) -> None:
    """Wait until the disk holds the content of a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """MD5 of the bytes of a file, in hexadecimal digits: the checksum of dvc.lock, not for security."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def sha256_of_folder(folder: Path, checksum: Callable[[Path], str] = sha256_of) -> str:
    """SHA-256 over the names and bytes of every file under `folder`, except what Python compiled there.

    `checksum` gives the SHA-256 of a file, in hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(bytes.fromhex(checksum(path)))
    return digest.hexdigest()


@contextmanager
def exclusive_lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it when the process ends, however that happens.

    Raises BlockingIOError where another process holds it, unless the caller is ready to `wait`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.UnixFileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BlockingIOError(f"{path} is locked by another process") from None
    try:
        yield
    finally:
        lock.release()
