"""A Redis Cluster of three nodes for a test, in memory only."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.settings import CLUSTER
from tests.support.dvc_project import free_port
from tests.support.redis_process import RedisProcess
from tests.support.waiting import wait_until

NODES = 3
needs_cluster = pytest.mark.skipif(
    not (shutil.which("redis-server") and shutil.which("redis-cli")),
    reason="there is no redis-server or redis-cli: apt-get install redis-server",
)


class RedisClusterProcesses:
    """Three nodes at free ports, each with a third of the slots and no replica."""

    def __init__(self, folder: Path) -> None:
        with ThreadPoolExecutor() as at_once:
            self.nodes = list(at_once.map(_node, (folder / str(number) for number in range(NODES))))
        addresses = [node.address for node in self.nodes]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL
        )
        wait_until(self.is_whole)

    @property
    def address(self) -> str:
        """The value of HINET_REDIS: the cluster by its first node."""
        return f"{CLUSTER}{self.nodes[0].address}"

    def is_whole(self) -> bool:
        """Whether every node knows that all slots are served."""
        return all(node.client.cluster("info")["cluster_state"] == "ok" for node in self.nodes)

    def keys(self) -> list[int]:
        """How many keys each node holds."""
        return [node.client.dbsize() for node in self.nodes]

    def content(self) -> dict[bytes, dict[bytes, bytes]]:
        """All hashes of all nodes, by their keys."""
        return {key: node.client.hgetall(key) for node in self.nodes for key in node.client.scan_iter()}

    def clear(self) -> None:
        """Remove every key."""
        for node in self.nodes:
            node.client.flushall()

    def move_slots(self, keys: list[bytes], target: RedisProcess) -> None:
        """Give the slots of `keys`, which are empty, to the node `target`."""
        node = target.client.cluster("myid")
        for slot in {target.client.cluster("keyslot", key) for key in keys}:
            for each in (target, *self.nodes):
                each.client.execute_command("CLUSTER SETSLOT", slot, "NODE", node)

    def stop(self) -> None:
        """Kill every node."""
        for node in self.nodes:
            node.stop()


def _node(folder: Path) -> RedisProcess:
    """A Redis that may join a cluster, and has no slots yet."""
    folder.mkdir()
    return RedisProcess(folder, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
