"""The fixtures that tests of several packages share. What they need is imported when one of them is used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SESSION = {
    "events": 5,
    "compared_columns": ["item_id"],
}  # aggregate.session of session_project: five events, by item too


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a tiny project after the pipeline: data, online store and model. Read it, do not change it."""
    from tests.support.tiny_project import build

    return build(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def session_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project whose model reads session features: see SESSION. Read it, do not change it."""
    from tests.support.tiny_project import build

    return build(tmp_path_factory.mktemp("sessions"), aggregate__session=SESSION)


@pytest.fixture(scope="session")
def client(project: Path) -> Iterator[Any]:
    """A client of the service on `project`, in this process; one per session: BentoML's metrics exist once."""
    from tests.support.tiny_project import open_client

    with open_client(project) as opened:
        yield opened


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A temporary Prefect server for the session; what flows leave there can be read back through its API."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Redis that the tests of a file may freeze, but not kill: tests/support/redis_process.py."""
    from tests.support.redis_process import RedisProcess

    made = RedisProcess(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Redis Cluster of three nodes: tests/support/redis_cluster.py."""
    from tests.support.redis_cluster import RedisClusterProcesses

    made = RedisClusterProcesses(tmp_path_factory.mktemp("cluster"))
    yield made
    made.stop()


@pytest.fixture
def service_environment(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The environment of a service on the tiny project; the shared service's state is restored afterwards."""
    from serving import service
    from tests.support import tiny_project

    with tiny_project.restored_service():
        monkeypatch.setattr(service, "serve_params", lambda: tiny_project.with_read_timeout(project))
        monkeypatch.setenv("HINET_MODEL", str(project / tiny_project.MODEL))
        monkeypatch.setenv("HINET_ONLINE_STORE", str(project / tiny_project.ONLINE))
        yield monkeypatch


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in: flows take the current folder for their workspace."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_data_docs() -> Iterator[None]:
    """Quality gates write no pages."""
    from tests.support.stages import no_data_docs

    with no_data_docs():
        yield
