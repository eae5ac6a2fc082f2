"""Feast's registry in PostgreSQL, and its online store in Redis: the servers of a team."""

import gc
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from common.exit_status import LOCKED
from features.store.online_store import StoreUnavailableError
from tests.support.feast_repository import REPOSITORY, feast, write_repository
from tests.support.postgres_process import PASSWORD, postgres_server
from tests.support.redis_cluster import RedisClusterProcesses, needs_cluster
from tests.support.redis_process import RedisProcess
from tests.support.refreshed_store import LAST, update

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_data_docs")]
UNCHANGED = ("No changes to registry", "No changes to infrastructure")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after the pipeline."""
    return write_repository(tmp_path_factory.mktemp("feast") / "project")


@pytest.fixture
def address(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The database of a new PostgreSQL server, named by the environment as the page says."""
    with postgres_server("feast") as port:
        database = f"postgresql+psycopg://feast:{PASSWORD}@127.0.0.1:{port}/postgres"
        monkeypatch.setenv("HINET_FEAST_REGISTRY", database)
        monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(folder / REPOSITORY / "feature_store.postgres.yaml"))
        yield database
        gc.collect()  # of Feast's commands, which leave their connections to it


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in. .*BaseConnection:pytest.PytestUnraisableExceptionWarning")
def test_the_refresh_keeps_the_registry_in_postgresql(
    folder: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a refresh there is nothing to apply; the database has the views and their end, no file the password."""
    assert "Created feature view" in feast(folder, "plan")
    update(folder, LAST)
    assert all(line in feast(folder, "plan") for line in UNCHANGED)
    monkeypatch.setenv("HINET_ONLINE_STORE", "online/online.db")
    output = feast(folder, "materialize-incremental", "2026-11-30T00:00:00")
    assert output.count(": 0 rows written") == 3
    assert f"{LAST:%Y-%m-%d %H:%M:%S}" in output
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        rows = connection.execute("select feature_view_name, project_id from feature_views").fetchall()
    assert {(name, "hinet") for name in ("user", "item", "user_in_scenario")} == set(rows)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if PASSWORD.encode() in path.read_bytes()]


def test_a_refresh_without_the_database_can_be_run_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is written all the same; the exit status means: run the same command later."""
    monkeypatch.setenv("HINET_FEAST_REGISTRY", "postgresql+psycopg://feast:secret@127.0.0.1:9/feast")
    with pytest.raises(StoreUnavailableError, match=r"the database of HINET_FEAST_REGISTRY: .*refused") as error:
        update(folder, LAST)
    assert error.value.exit_status == LOCKED


@needs_cluster
@pytest.mark.parametrize("kind", [RedisProcess, RedisClusterProcesses])
def test_feast_materializes_into_the_redis_of_the_service(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type
) -> None:
    """A single Redis or a cluster: it writes every entity once, and nothing the second time."""
    server = kind(tmp_path)
    monkeypatch.setenv("HINET_REDIS", server.address)
    monkeypatch.setenv("HINET_ONLINE_STORE", f"{kind.__name__}/online.db")
    (folder / kind.__name__).mkdir()
    try:
        feast(folder, "apply")
        first = feast(folder, "materialize-incremental", "2026-11-30T00:00:00")
        assert "user: 12 rows written" in first
        assert "item: 9 rows written" in first
        assert feast(folder, "materialize-incremental", "2026-11-30T00:00:00").count(": 0 rows written") == 3
    finally:
        server.stop()
