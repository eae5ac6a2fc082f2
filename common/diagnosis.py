"""Why a command failed, where the reason is a file or the disk: one sentence instead of a traceback.

An error of the operating system says it itself. Any other error is explained only if a file that the command was given
is damaged; without one it is a fault of the program.
"""

import errno
import json
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

AGAIN = "free some, then run the command again"
DENIED = "is closed to this user: correct the owner or the mode (`ls -ld`), or run as its owner"
REASONS = {
    errno.ENOENT: "does not exist: correct the option, or make it first (`dvc repro`)",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: "is on a read-only file system: name an output on another one",
    errno.EISDIR: "is a folder, expected a file",
    errno.ENOTDIR: "has a file where its path needs a folder",
    errno.EEXIST: "is a file, expected a folder",
    errno.ENOSPC: f"cannot be written, no space is left on the device: {AGAIN}",
    errno.EDQUOT: f"cannot be written, the quota is used up: {AGAIN}",
    errno.EFBIG: "cannot be written, it is larger than this user's files may be (`ulimit -f`)",
    errno.ENAMETOOLONG: "has a longer name than the file system allows",
    errno.ELOOP: "is a symbolic link that leads back to itself",
    errno.EMFILE: "cannot be opened, too many files are open (`ulimit -n`)",
    errno.EIO: "cannot be read or written, the device fails (`dmesg` says more)",
    errno.ESTALE: "was lost by the network file system: run the command again",
}
PARQUET = b"PAR1"
NUMPY = b"\x93NUMPY"
SQLITE = b"SQLite format 3\0"
PARTS = 10_000  # files of a folder that are looked at


def explain(fault: Exception, options: Mapping[str, Any]) -> str | None:
    """The sentence for the end of a command with these options; None where `fault` is one of the program."""
    paths = dict(_paths(options))
    if isinstance(fault, OSError) and (reason := REASONS.get(fault.errno or 0)):
        name = fault.filename2 if fault.errno == errno.EEXIST and fault.filename2 else fault.filename
        return f"{_named(name, paths)} {reason}" if name is not None else f"{fault}: {reason}"
    for option, path in paths.items():
        for file in _files(path):
            if damage := damage_of(file):
                return f"{file} ({option}) is damaged: {damage}. Make it anew (`dvc repro`). {_short(fault)}"
    return None


def damage_of(path: Path) -> str | None:
    """What is wrong with a file, by its content or the end of its name; None where nothing is known to be."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if not head:
            return "it is empty"
        check = CHECKS.get(path.suffix)
        return check(path, head) if check else None
    except OSError as error:
        return error.strerror or str(error)


def _check_json(path: Path, _: bytes) -> str | None:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        return f"it is not JSON ({error})"
    return None


def _check_parquet(path: Path, head: bytes) -> str | None:
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), 2)
        tail = file.read()
    return None if head[:4] == tail[-4:] == PARQUET else "it is not a whole Parquet file"


def _check_numpy(path: Path, head: bytes) -> str | None:
    if not head.startswith(NUMPY):
        return "it is not an array of NumPy"
    import numpy as np

    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        return f"it is not a whole array of NumPy ({error})"
    return None


def _check_zip(path: Path, _: bytes) -> str | None:
    return None if zipfile.is_zipfile(path) else "it is not a whole archive"


def _check_sqlite(path: Path, head: bytes) -> str | None:
    if head != SQLITE:
        return "it is not a database of SQLite"
    try:
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        return f"it is not a whole database of SQLite ({error})"
    return None if answer == "ok" else f"it is not a whole database of SQLite ({answer})"


def _check_safetensors(path: Path, head: bytes) -> str | None:
    length = int.from_bytes(head[:8], "little")
    with path.open("rb") as file:
        header = file.read(min(8 + length, path.stat().st_size))[8:]
    try:
        described = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in described.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its header is not that of safetensors"
    return None if 8 + length + max(ends, default=0) == path.stat().st_size else "it is not a whole file of safetensors"


CHECKS = {
    ".json": _check_json,
    ".parquet": _check_parquet,
    ".npy": _check_numpy,
    ".npz": _check_zip,
    ".zip": _check_zip,
    ".pt": _check_zip,
    ".db": _check_sqlite,
    ".safetensors": _check_safetensors,
}


def _paths(options: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Each path among the options by the option's name; of a list, each with its position."""
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, Path):
            yield option, value
        elif isinstance(value, list | tuple):
            yield from ((f"{option} {one}", one) for one in value if isinstance(one, Path))


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or the files below a folder."""
    if path.is_file():
        yield path
    elif path.is_dir():
        inner = (file for file in sorted(path.rglob("*")) if file.suffix in CHECKS and file.is_file())
        yield from (file for _, file in zip(range(PARTS), inner, strict=False))


def _named(name: str | bytes, paths: Mapping[str, Path]) -> str:
    """A path with the option that it comes from."""
    path = Path(str(name))
    for option, given in paths.items():
        if path.absolute().is_relative_to(given.absolute()):
            return f"{path} ({option})"
    return str(path)


def _short(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return f"({type(fault).__name__}: {text[:200]})"
