"""The Redis of deploy/kubernetes on this machine: its arguments, and the script that makes a cluster and mends it."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.dvc_project import free_port
from tests.support.manifests import KUBERNETES, of_kind
from tests.support.redis_cluster import needs_cluster
from tests.support.redis_process import RedisProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, needs_cluster]
SCRIPT = KUBERNETES / "overlays" / "team" / "redis-cluster.sh"
NODES, BUS = 6, 10_000  # what is added to the port of a node for that of its bus


def arguments(overlay: str) -> list[str]:
    """Those of the container, in a pod at 127.0.0.1."""
    (container,) = of_kind(overlay, "StatefulSet")["redis"]["spec"]["template"]["spec"]["containers"]
    return [one.replace("$(POD_IP)", "127.0.0.1") for one in (*container["command"][1:], *container["args"])]


def node(folder: Path, options: list[str]) -> RedisProcess:
    """A Redis with these options, whose bus has a port, too; `folder` stands for its volume."""
    folder.mkdir(exist_ok=True)
    port = next(port for port in iter(free_port, None) if port + BUS < 2**16)
    return RedisProcess(folder, *(str(folder) if one == "/data" else one for one in options), port=port)


@pytest.mark.parametrize("overlay", ["overlays/single", "overlays/team"])
def test_redis_takes_the_arguments(overlay: str, tmp_path: Path) -> None:
    """It keeps a file in the volume, and refuses what exceeds its memory, which the container has twice."""
    server = node(tmp_path / "data", arguments(overlay))
    try:
        read: dict[str, Any] = server.client.config_get("*")
        assert (read["appendonly"], read["maxmemory-policy"], read["protected-mode"]) == ("yes", "noeviction", "no")
        assert read["cluster-enabled"] == ("yes" if overlay == "overlays/team" else "no")
        assert list((tmp_path / "data").glob("appendonlydir/*"))
        (container,) = of_kind(overlay, "StatefulSet")["redis"]["spec"]["template"]["spec"]["containers"]
        assert 2 * int(read["maxmemory"]) == int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30
    finally:
        server.stop()


@pytest.mark.slow
def test_the_script_makes_a_cluster_and_mends_it(tmp_path: Path) -> None:
    """Three thirds with a replica each; where all nodes have new addresses at once, they meet again, keys and all."""
    options = arguments("overlays/team")
    nodes = [node(tmp_path / str(number), options) for number in range(NODES)]
    try:
        join(nodes)
        client = redis.RedisCluster(host="127.0.0.1", port=nodes[0].port)
        assert sum(each["flags"].count("slave") for each in client.cluster_nodes().values()) == 3
        for number in range(100):
            client.set(f"key{number}", number)
        client.close()
        for each in nodes:
            each.process.terminate()
            each.process.wait()
        nodes = [node(tmp_path / str(number), options) for number in range(NODES)]
        join(nodes)
        client = redis.RedisCluster(host="127.0.0.1", port=nodes[-1].port)
        assert [int(client.get(f"key{number}")) for number in range(100)] == list(range(100))
        client.close()
    finally:
        for each in nodes:
            each.stop()


def join(nodes: list[RedisProcess]) -> None:
    """Run the script, and wait until every node has a whole cluster of which all nodes answer."""
    subprocess.run([SCRIPT, "1", *(each.address for each in nodes)], check=True, capture_output=True, timeout=60)
    wait_until(lambda: all(is_whole(each) for each in nodes))


def is_whole(one: RedisProcess) -> bool:
    """Whether this node knows six, none of which fails, and sees every key served."""
    known = one.client.cluster("nodes").values()
    states = [each["connected"] and "fail" not in each["flags"] for each in known]
    return len(states) == NODES and all(states) and one.client.cluster("info")["cluster_state"] == "ok"
