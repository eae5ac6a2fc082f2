"""Which queue holds the events: a file, or the Redis that is the online store, for services on several machines."""

from pathlib import Path

from serving.events.consumer import Queue
from serving.events.event_queue import EventQueue


def open_queue(folder: Path, redis: str | None) -> Queue:
    """The queue in the Redis at an address, or in a file of the folder `folder`, which is made where there is none."""
    if redis is None:
        return EventQueue(folder)
    from serving.events.redis_queue import RedisEventQueue  # feast, which the process that watches workers never needs

    return RedisEventQueue(redis)
