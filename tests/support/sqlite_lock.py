"""A process that holds an exclusive lock on a SQLite file."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLD_FILE = """import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma locking_mode = exclusive")
connection.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked_by_another_process(online: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the lock until the process is killed or the block ends."""
    command = [sys.executable, "-c", HOLD_FILE, str(online)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
