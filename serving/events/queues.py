"""Which queue holds the events: a file, or the Redis that is the online store, for services on several machines."""

import sqlite3
from pathlib import Path

from redis import RedisError
from redis.exceptions import RedisClusterException

from serving.events.consumer import Queue
from serving.events.event_queue import EventQueue

FAULTS = (sqlite3.OperationalError, RedisError, RedisClusterException)  # of a queue, or of the store beside it


def open_queue(folder: Path, redis: str | None) -> Queue:
    """The queue in the Redis at an address, or in a file of the folder `folder`, which is made where there is none."""
    if redis is None:
        return EventQueue(folder)
    from serving.events.redis_queue import RedisEventQueue  # feast, which the process that watches workers never needs

    return RedisEventQueue(redis)
