"""Checksums that a process leaves to the next one: a file that has not changed since is not read again."""

import json
import time
from pathlib import Path
from typing import Any

from common.files import sha256_of, write_text

SETTLED_SECONDS = 2.0  # a file that changed later may change again within one tick of the file system's clock


class ChecksumMemo:
    """SHA-256 of files, remembered in the JSON file `path` by name, size, times of change and inode.

    A memo that is missing or damaged costs the reading of the files, nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known, self._seen = _read(path), dict[str, list[Any]]()

    def sha256_of(self, file: Path) -> str:
        """SHA-256 of the bytes of `file`, in hexadecimal digits."""
        status = file.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        known = self._known.get(str(file.absolute()))
        digest = str(known[-1]) if known and known[:-1] == state else sha256_of(file)
        if max(status.st_mtime, status.st_ctime) < time.time() - SETTLED_SECONDS:
            self._seen[str(file.absolute())] = [*state, digest]
        return digest

    def write(self) -> None:
        """Keep the checksums of the files that were asked for, and of no others."""
        if self._seen != self._known:
            write_text(self._path, json.dumps(self._seen, indent=1) + "\n")


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: one for name, one in known.items() if isinstance(one, list)} if isinstance(known, dict) else {}
