"""The service on a Redis Cluster: answers as from SQLite, flagged where a node is down or the address is wrong."""

import time
from pathlib import Path

import pytest

from common.settings import CLUSTER
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker
from tests.support import tiny_project
from tests.support.rankers import USERS, rank, ranker_on
from tests.support.redis_cluster import RedisClusterProcesses, needs_cluster
from tests.support.redis_process import filled_folder

pytestmark = [pytest.mark.process, needs_cluster]


@pytest.fixture(scope="module")
def filled(project: Path, redis_cluster: RedisClusterProcesses, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the item snapshot of the cluster, which holds the features of the tiny project."""
    return filled_folder(project, tmp_path_factory.mktemp("filled"), redis_cluster.address)


def ranker_at(project: Path, filled: Path, address: str) -> Ranker:
    """A ranker whose online store is at `address`, as HINET_REDIS has it."""
    sources = ModelSources(project / tiny_project.MODEL, filled / "online.db", filled / "registry.db", address)
    return ranker_on(project, sources, timeout_ms=1000.0)


def test_answers_from_a_cluster_are_those_of_a_sqlite_store(
    project: Path, redis_cluster: RedisClusterProcesses, filled: Path, tmp_path: Path
) -> None:
    """For every user, one without a row among them: equal scores, and nothing is degraded."""
    sqlite = tiny_project.ranker(project, tmp_path / "registry.db")
    cluster = ranker_at(project, filled, redis_cluster.address)
    for user in USERS:
        one, other = rank(sqlite, user), rank(cluster, user)
        assert (one.items, list(one.scores), one.unknown_user) == (other.items, list(other.scores), other.unknown_user)
        assert other.degraded is None


def test_the_address_of_a_node_is_an_answer_that_names_the_setting(
    project: Path, redis_cluster: RedisClusterProcesses, filled: Path
) -> None:
    """The service answers without the user's features, and says which setting is wrong and what is right."""
    node = redis_cluster.nodes[0].address
    ranker = ranker_at(project, filled, node)
    degraded = next(filter(None, (rank(ranker, user).degraded for user in USERS)))  # whose key another node has
    assert (
        f"HINET_REDIS: expected a single Redis, found a node of a cluster: set HINET_REDIS={CLUSTER}{node}" in degraded
    )


def test_a_dead_node_costs_its_users_their_features_and_no_more(
    project: Path, redis_cluster: RedisClusterProcesses, filled: Path
) -> None:
    """Every request is answered within the read timeout, flagged."""
    ranker = ranker_at(project, filled, redis_cluster.address)
    assert rank(ranker, 1).degraded is None
    for node in redis_cluster.nodes[1:]:
        node.stop()
    started = time.monotonic()
    assert "online store" in str(rank(ranker, 1).degraded)
    assert time.monotonic() - started < 3.0
