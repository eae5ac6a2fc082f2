"""The online store in a Redis Cluster: what is written there, by whom, and what a wrong kind of address says."""

from pathlib import Path

import pytest

from common.errors import ParameterError
from common.settings import CLUSTER
from features.store.online_store import StoreUnavailableError
from tests.support.bulk_rows import check_read, opened, rows, write
from tests.support.redis_cluster import NODES, RedisClusterProcesses, needs_cluster
from tests.support.redis_process import RedisProcess, refresh_redis
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_data_docs"), needs_cluster]


def test_the_cluster_holds_what_feast_writes(redis_cluster: RedisClusterProcesses, tmp_path: Path) -> None:
    """Keys, fields and bytes of a bulk write equal those of Feast's own, and Feast reads every value."""
    stored = []
    for bulk in (True, False):
        folder = tmp_path / str(bulk)
        folder.mkdir()
        redis_cluster.clear()
        store, view = opened(folder, redis_cluster.address)
        write(store, view, rows(first=1), bulk=bulk)
        write(store, view, rows(), bulk=bulk)
        check_read(store)
        stored.append(redis_cluster.content())
    assert stored[0] == stored[1]
    assert len(stored[0]) == 4


def test_rows_whose_slots_have_moved_reach_their_node(redis_cluster: RedisClusterProcesses, tmp_path: Path) -> None:
    """The client knows the slots as they were: a bulk write follows the redirections of the nodes."""
    redis_cluster.clear()
    store, view = opened(tmp_path, redis_cluster.address)
    write(store, view, rows(first=1), bulk=True)
    last, keys = redis_cluster.nodes[-1], list(redis_cluster.content())
    redis_cluster.clear()
    redis_cluster.move_slots(keys, last)
    write(store, view, rows(), bulk=True)
    check_read(store)
    assert last.client.dbsize() == len(keys) == 4


def test_a_refresh_of_a_cluster_writes_only_what_is_new(
    project: Path, redis_cluster: RedisClusterProcesses, tmp_path: Path
) -> None:
    """Every node gets keys, a sample equals the offline store, and a second run writes nothing."""
    redis_cluster.clear()
    first = refresh_redis(project, tmp_path, redis_cluster.address)
    assert all(view["written"] for view in first["views"].values())
    assert all(first["compared"].values())
    assert not first["again"]
    assert len(redis_cluster.keys()) == NODES
    assert all(redis_cluster.keys())
    assert not any(
        view["written"] for view in refresh_redis(project, tmp_path, redis_cluster.address)["views"].values()
    )


def test_a_cluster_named_as_a_single_redis_is_a_sentence(
    project: Path, redis_cluster: RedisClusterProcesses, tmp_path: Path
) -> None:
    """It has the setting that is right, and no password."""
    node = redis_cluster.nodes[0].address
    with pytest.raises(ParameterError) as error:
        refresh_redis(project, tmp_path, f"{node},client_name=secret")
    assert str(error.value) == (
        f"HINET_REDIS: expected a single Redis, found a node of a cluster: set HINET_REDIS={CLUSTER}{node}"
    )


def test_a_single_redis_named_as_a_cluster_is_a_sentence(
    project: Path, redis_server: RedisProcess, tmp_path: Path
) -> None:
    """It has the setting that is right."""
    address = redis_server.address
    with pytest.raises(ParameterError, match=f"expected a cluster, found a single Redis: set HINET_REDIS={address}"):
        refresh_redis(project, tmp_path, f"{CLUSTER}{address}")


def test_a_cluster_out_of_reach_can_be_refreshed_later(project: Path, tmp_path: Path) -> None:
    """No node answers: the exit status means, run the same command later."""
    with pytest.raises(StoreUnavailableError, match="the Redis of HINET_REDIS"):
        refresh_redis(project, tmp_path, f"{CLUSTER}127.0.0.1:9")


def test_a_refresh_without_one_of_the_nodes_can_be_run_later(
    project: Path, redis_cluster: RedisClusterProcesses, tmp_path: Path
) -> None:
    """The exit status says so; with the node back, the same command writes the rest."""
    redis_cluster.nodes[1].stop()
    with pytest.raises(StoreUnavailableError, match="the Redis of HINET_REDIS"):
        refresh_redis(project, tmp_path, redis_cluster.address)
    redis_cluster.nodes[1].start()
    wait_until(redis_cluster.is_whole)
    report = refresh_redis(project, tmp_path, redis_cluster.address)
    assert all(view["written"] for view in report["views"].values())
