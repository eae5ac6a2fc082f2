"""The client of the Redis that HINET_REDIS names, as Feast's online store opens it."""

from pathlib import Path
from typing import Any

from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig

from features.store.online_settings import online_settings


def redis_client(address: str) -> Any:
    """A client of the Redis, or the Redis Cluster, at `address`; it connects when it is first used."""
    settings = online_settings(Path(), address)
    return RedisOnlineStore()._get_client(RedisOnlineStoreConfig(**settings))
