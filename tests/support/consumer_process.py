"""`python -m serving.consume` as a process, started as a user would."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "serving.consume"]


@contextlib.contextmanager
def consumer(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A consumer on a free port, and the address of its metrics; killed at the end."""
    changed = os.environ | environment
    process = subprocess.Popen([*COMMAND, "--port", "0", *options], stderr=subprocess.PIPE, text=True, env=changed)
    try:
        assert process.stderr is not None
        started = next(line for line in process.stderr if "metrics: " in line)
        yield process, started.split("metrics: ")[1].strip()
    finally:
        process.kill()
        process.communicate()
