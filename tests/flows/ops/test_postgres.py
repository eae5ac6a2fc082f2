"""Prefect for a team: the server keeps its records in PostgreSQL, as in deploy/compose.yaml."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from benchmarks.pipeline.stack import stack
from common.paths import ROOT
from tests.support.flow_harness import write_repository
from tests.support.postgres_process import PASSWORD, postgres_server
from tests.support.project_clone import clone

pytestmark = [pytest.mark.process, pytest.mark.slow]

USER = "prefect"


@pytest.fixture
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL server with an empty database and a user for Prefect."""
    with postgres_server(USER) as port:
        yield port


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
