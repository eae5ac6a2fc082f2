"""Feast's settings of an online store, a SQLite file or a Redis, and the engine that fills it."""

from pathlib import Path
from typing import Any

from common.settings import CLUSTER

ENGINE = "features.store.arrow_engine.ArrowEngine"  # of the pipeline; Feast imports it by this name
_TIMEOUTS = "socket_timeout=10,socket_connect_timeout=10"  # seconds: a thread that waits for a frozen Redis ends


def online_settings(online: Path, redis: str | None) -> dict[str, Any]:
    """The section `online_store` for the SQLite file `online`, or for `redis`: a Redis or a Redis Cluster.

    Feast's Redis store leaves out a revised value of the same timestamp by default (`skip_dedup`); what is written here
    was compared before (features/store/incremental.py, features/store/in_use.py).

    Args:
        online: SQLite file of the online store.
        redis: As HINET_REDIS has it.
    """
    if redis is None:
        return {"type": "sqlite", "path": str(online.absolute())}
    kind = "redis_cluster" if redis.startswith(CLUSTER) else "redis"
    address = f"{redis.removeprefix(CLUSTER)},{_TIMEOUTS}"
    return {"type": "redis", "redis_type": kind, "connection_string": address, "skip_dedup": True}
