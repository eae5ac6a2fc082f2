"""Which queue holds the events: a file, or the Redis that is the online store, for services on several machines."""

from pathlib import Path

from serving.events.consumer import Queue
from serving.events.event_queue import EventQueue
from serving.events.redis_queue import RedisEventQueue


def open_queue(folder: Path, redis: str | None) -> Queue:
    """The queue in the Redis at an address, or in a file of the folder `folder`, which is made where there is none."""
    return EventQueue(folder) if redis is None else RedisEventQueue(redis)
