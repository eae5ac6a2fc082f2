"""Why a command failed, where the reason is a file, the disk or the memory: one sentence instead of a traceback.

An error of the operating system says it itself. Any other error is explained only if a file that the command was given
is damaged; without one it is a fault of the program.
"""

import contextlib
import errno
import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import PipelineError

AGAIN = "free some, then run the command again"
DENIED = "is closed to this user: correct the owner or the mode (`ls -ld`), or run as its owner"
REASONS = {
    errno.ENOENT: "does not exist: correct the option, or make it first (`dvc repro`)",
    errno.EACCES: DENIED,
    errno.EPERM: DENIED,
    errno.EROFS: "is on a read-only file system: name an output on another one",
    errno.EISDIR: "is a folder, expected a file",
    errno.ENOTDIR: "has a file where its path needs a folder",
    errno.EEXIST: "exists already: remove it, or name another output",
    errno.ENOSPC: f"cannot be written, no space is left on the device: {AGAIN}",
    errno.EDQUOT: f"cannot be written, the quota is used up: {AGAIN}",
    errno.EFBIG: "cannot be written, it is larger than this user's files may be (`ulimit -f`)",
    errno.ENAMETOOLONG: "has a longer name than the file system allows",
    errno.ELOOP: "is a symbolic link that leads back to itself",
    errno.EMFILE: "cannot be opened, too many files are open (`ulimit -n`)",
    errno.EIO: "cannot be read or written, the device is full or fails (`df` and `dmesg` say more)",
    errno.ESTALE: "was lost by the network file system: run the command again",
}
CLASSES = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    IsADirectoryError: errno.EISDIR,
    NotADirectoryError: errno.ENOTDIR,
    FileExistsError: errno.EEXIST,
}
TEXTS = {os.strerror(number): number for number in REASONS if number != errno.EPERM} | {
    "No files found that match": errno.ENOENT,  # DuckDB
    "attempt to write a readonly database": errno.EACCES,  # SQLite
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "unable to open database file": errno.EACCES,
}
OUT_OF_MEMORY = "Out of Memory Error"  # DuckDB
MEMORY = (
    "DuckDB cannot do with the memory that it may use: set HINET_MEMORY to more than its 2GB, such as 8GB, but to less "
    "than the machine has (docs/how-to/scale.md)"
)
LONGEST = 300  # letters of an error that a sentence has
PARQUET = b"PAR1"
SMALLEST_PARQUET = 12  # bytes: both marks and the length of the footer
NUMPY = b"\x93NUMPY"
SQLITE = b"SQLite format 3\0"
PARTS = 10_000  # files of a folder that are looked at


def explain(fault: BaseException, options: Mapping[str, Any]) -> str | None:
    """The sentence for the end of a command with these options; None where `fault` is one of the program."""
    paths = dict(_paths(options))
    cause: BaseException | None = fault
    while cause is not None:
        if OUT_OF_MEMORY in str(cause):
            return f"{MEMORY} {_short(cause)}"
        if (number := _number_of(cause)) is not None:
            return _sentence(cause, number, paths)
        cause = cause.__cause__
    try:
        return next((f"{sentence} {_short(fault)}" for sentence in _damages(paths)), None)
    except OSError as closed:
        return None if (number := _number_of(closed)) is None else _sentence(closed, number, paths)


def _damages(paths: Mapping[str, Path]) -> Iterator[str]:
    """A sentence for each file below the paths that is damaged; raises OSError for one that cannot be read."""
    for option, path in paths.items():
        if path.suffix in CHECKS and path.is_dir():
            yield f"{path} ({option}) {REASONS[errno.EISDIR]}."
        for file in _files(path):
            if damage := damage_of(file):
                yield f"{file} ({option}) is damaged: {damage}. Make it anew (`dvc repro`)."


def check_whole(files: Mapping[str, Path]) -> None:
    """Raise PipelineError for the first of the `files`, by option, that is missing or damaged: before hours of work."""
    for name, path in files.items():
        if path.is_dir() or not path.exists():
            raise PipelineError(f"{path} (--{name}) {REASONS[errno.EISDIR if path.is_dir() else errno.ENOENT]}")
        if damage := damage_of(path):
            raise PipelineError(f"{path} (--{name}) is damaged: {damage}. Make it anew (`dvc repro`).")


def _number_of(fault: BaseException) -> int | None:
    """The number of an error of the system; libraries keep it, or its class, or only its text."""
    if isinstance(fault, OSError) and fault.errno is not None:
        return fault.errno if fault.errno in REASONS else None
    by_class = (number for kind, number in CLASSES.items() if isinstance(fault, kind))
    by_text = (number for text, number in TEXTS.items() if text in str(fault))
    return next(by_class, None) or next(by_text, None)


def _sentence(fault: BaseException, number: int, paths: Mapping[str, Path]) -> str:
    name = getattr(fault, "filename2", None) or getattr(fault, "filename", None)
    text = " ".join(str(fault).split())
    if name is None:
        quoted = [text, *re.findall(r"'([^']+)'|\"([^\"]+)\"", text)]
        names = [one for pair in quoted for one in ([pair] if isinstance(pair, str) else pair) if one]
        name = next((one for one in names if any(_is_below(one, path) for path in paths.values())), None)
    if name is None and isinstance(fault, sqlite3.Error):
        name, number = _database(number, paths)
    return (
        f"a file {REASONS[number]} ({text[:LONGEST]})" if name is None else f"{_named(name, paths)} {REASONS[number]}"
    )


def _database(number: int, paths: Mapping[str, Path]) -> tuple[str | None, int]:
    """The database among the options, and why it cannot be opened: SQLite names neither."""
    databases = [path for path in paths.values() if CHECKS.get(path.suffix) is _check_sqlite]
    if len(databases) != 1:
        return None, number
    with contextlib.suppress(OSError):  # it is in a closed folder
        number = errno.EISDIR if databases[0].is_dir() else number
    return str(databases[0]), number


def damage_of(path: Path) -> str | None:
    """What is wrong with a file, by its content and the end of its name; None where nothing is known to be."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        return "it is empty"
    check = CHECKS.get(path.suffix)
    return check(path, head) if check else None


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
    whole = path.stat().st_size >= SMALLEST_PARQUET and head[:4] == tail[-4:] == PARQUET
    return None if whole else "it is not a whole Parquet file"


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
        with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True) as connection:
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
    text = os.fsdecode(name) if isinstance(name, bytes) else str(name)
    return next((f"{text} ({option})" for option, path in paths.items() if _is_below(text, path)), text)


def _is_below(name: str, path: Path) -> bool:
    return "\0" not in name and Path(name).absolute().is_relative_to(path.absolute())


def _short(fault: BaseException) -> str:
    text = " ".join(str(fault).split())
    return f"({type(fault).__name__}: {text[:LONGEST]})"
