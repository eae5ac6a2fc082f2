"""The errors of a Redis that its user can act upon: it is out of reach, or not of the kind that HINET_REDIS says."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import ConnectionError, TimeoutError
from redis.exceptions import ClusterDownError, MovedError, RedisClusterException

from common.errors import ParameterError
from common.settings import CLUSTER, read_settings, variable

OUT_OF_REACH = (ConnectionError, TimeoutError, ClusterDownError, RedisClusterException)


@contextmanager
def expected_kind() -> Iterator[None]:
    """Raise ParameterError where HINET_REDIS names a cluster as a single Redis, or a single Redis as a cluster."""
    try:
        yield
    except (MovedError, RedisClusterException) as error:
        reason = other_kind(error, read_settings().redis or "")
        if reason is None:
            raise
        raise ParameterError(reason) from error


def other_kind(error: Exception, address: str) -> str | None:
    """What is wrong with `address`, as HINET_REDIS or Feast has it, where `error` says that it is of the other kind."""
    name, node = variable("redis"), address.removeprefix(CLUSTER).split(",")[0]
    if isinstance(error, MovedError):
        return f"{name}: expected a single Redis, found a node of a cluster: set {name}={CLUSTER}{node}"
    if isinstance(error, RedisClusterException) and "Cluster mode is not enabled" in str(error):
        return f"{name}: expected a cluster, found a single Redis: set {name}={node}, without {CLUSTER}"
    return None
