"""A PostgreSQL server for a test, in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.pipeline.stack import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # where Debian keeps them
PASSWORD = "secret"


@contextmanager
def postgres_server(user: str) -> Iterator[int]:
    """The port of a server with an empty database `postgres`, which belongs to `user` (PASSWORD)."""
    if not BINARIES:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: `apt-get install postgresql`")
    folder, port, programs = Path(tempfile.mkdtemp(prefix="postgres-")), free_port(), BINARIES[-1].parent
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    data = str(folder / "data")
    _as_unprivileged(
        str(programs / "initdb"), "-D", data, "-U", user, f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"
    )
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    _as_unprivileged(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", settings, "start")
    try:
        yield port
    finally:
        _as_unprivileged(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def _as_unprivileged(*command: str) -> None:
    """Run a command of PostgreSQL, which refuses to be run by root."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, *command], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
