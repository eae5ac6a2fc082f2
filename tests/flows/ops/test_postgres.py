"""Prefect for a team: the server keeps its records in PostgreSQL, as in deploy/compose.yaml."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks.pipeline.stack import free_port, stack
from common.paths import ROOT
from tests.support.flow_harness import write_repository
from tests.support.project_clone import clone

pytestmark = pytest.mark.process

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # where Debian keeps them
USER, PASSWORD = "prefect", "secret"


def as_unprivileged(*command: str) -> None:
    """Run a command of PostgreSQL, which refuses to be run by root."""
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, *command], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL server in a temporary folder, with an empty database and a user for Prefect."""
    if not BINARIES:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: `apt-get install postgresql`")
    folder, port, programs = Path(tempfile.mkdtemp(prefix="postgres-")), free_port(), BINARIES[-1].parent
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    data = str(folder / "data")
    as_unprivileged(
        str(programs / "initdb"), "-D", data, "-U", USER, f"--pwfile={folder / 'password'}", "--auth=scram-sha-256"
    )
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    as_unprivileged(str(programs / "pg_ctl"), "-D", data, "-w", "-l", f"{folder}/log", "-o", settings, "start")
    try:
        yield port
    finally:
        as_unprivileged(str(programs / "pg_ctl"), "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_run_is_recorded_in_postgresql(postgres: int, tmp_path: Path) -> None:
    """The address is that of the compose file; a flow runs, and its record is read back through the API."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    address = compose["services"]["server"]["environment"]["PREFECT_API_DATABASE_CONNECTION_URL"]
    address = address.replace("${PREFECT_DATABASE_PASSWORD}", PASSWORD).replace("@database:5432/prefect", "")
    address = f"{address}@127.0.0.1:{postgres}/postgres"
    assert address.startswith(f"postgresql+asyncpg://{USER}:{PASSWORD}@")
    workspace = clone(tmp_path / "project")
    write_repository(workspace, page={"cmd": "echo words > page", "outs": ["page"]})
    with stack(workspace, tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=address) as made:
        output = made.run(sys.executable, "-m", "flows.pipeline", "--as-of", "2026-01-18", "--no-release")
        assert output.strip().endswith("1 ran")
        (run,) = made.post("flow_runs/filter")
        assert (run["name"], run["state"]["type"], run["state"]["message"]) == ("pipeline", "COMPLETED", "1 ran")
        server = psutil.Process(made.processes["server"].process.pid)
        connected = {one.raddr.port for one in server.net_connections() if one.raddr}
        assert postgres in connected
    assert not list((tmp_path / "prefect").glob("*.db"))  # no SQLite file
