"""The queue of events in a Redis: a stream, to which the services of several machines add.

It has what the queue in a file has (serving/events/event_queue.py). The entries have consecutive numbers, by which the
consumer reads on; a consumer group would keep a second position beside that in the store of the states. How durable an
acknowledged event is, the Redis decides: `appendfsync always`, or a second is lost when its machine is.
"""

import time
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from features.store.redis_client import redis_client
from serving.events.event_queue import Entry, digest_of

KEYS = "{hinet_events}:"  # one slot of a cluster, as a script needs it
STREAM, COUNTER, IDENTITY = f"{KEYS}stream", f"{KEYS}number", f"{KEYS}identity"
READERS = f"{KEYS}readers"  # a hash: what each has read
KNOWN_SECONDS = 7 * 86_400  # for which a report is known again at least, and twice that at most
_PUT = """
local accepted = 0
for index = 3, #ARGV, 2 do
  if redis.call('SISMEMBER', KEYS[4], ARGV[index]) == 0 and redis.call('SADD', KEYS[3], ARGV[index]) == 1 then
    local number = redis.call('INCR', KEYS[1])
    redis.call('XADD', KEYS[2], number .. '-1', 'received', ARGV[1], 'body', ARGV[index + 1])
    accepted = accepted + 1
  end
end
redis.call('EXPIRE', KEYS[3], ARGV[2])
return accepted
"""


class RedisEventQueue:
    """The queue in the Redis at an address, as HINET_REDIS has it, which is not touched before the first use."""

    def __init__(self, address: str) -> None:
        self.address = address

    @cached_property
    def _client(self) -> Any:
        return redis_client(self.address)

    @cached_property
    def _put(self) -> Any:
        return self._client.register_script(_PUT)

    @property
    def identity(self) -> str:
        """The identity of the queue: another one in a Redis that was emptied."""
        self._client.set(IDENTITY, uuid.uuid4().hex, nx=True)
        return str(self._client.get(IDENTITY).decode())

    def put(self, events: Sequence[tuple[int, bytes]]) -> int:
        """Add events, each its id and its JSON: all or none; returns how many were not known yet.

        Raises redis.RedisError where the Redis does not answer.
        """
        now = time.time()
        period = int(now // KNOWN_SECONDS)
        known = [f"{KEYS}known:{number}" for number in (period, period - 1)]
        reports = [part for event_id, body in events for part in (b"%d:" % event_id + digest_of(body), body)]
        return int(self._put([COUNTER, STREAM, *known], [now, 2 * KNOWN_SECONDS, *reports]))

    def after(self, number: int, limit: int) -> list[Entry]:
        """The first `limit` entries behind the one with this number."""
        entries = self._client.xrange(STREAM, min=f"({number}-1", count=limit)
        return [Entry(int(key.split(b"-")[0]), float(entry[b"received"]), entry[b"body"]) for key, entry in entries]

    def behind(self, number: int) -> int:
        """How many entries are behind the one with this number."""
        return max(int(self._client.get(COUNTER) or 0) - number, 0)

    def acknowledge(self, reader: str, number: int) -> None:
        """Record that `reader` needs no entry up to a number: from its first call on, what it needs is not removed."""
        self._client.hset(READERS, reader, number)

    def forget(self, number: int, received_before: float) -> int:
        """Remove entries up to a number, received before a time, that no reader needs: 10,000 at most; how many."""
        number = min([number, *map(int, self._client.hvals(READERS))])
        oldest = self.after(0, 10_000)
        removed = [entry for entry in oldest if entry.number <= number and entry.received < received_before]
        if removed:
            self._client.xtrim(STREAM, minid=f"{removed[-1].number + 1}-0", approximate=False)
        return len(removed)

    def close(self) -> None:
        """Close the connections, if there are any."""
        if "_client" in vars(self):
            self._client.close()
