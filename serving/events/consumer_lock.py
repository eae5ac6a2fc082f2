"""The lock that keeps the consumer of a Redis the only one, on whichever machine another is started.

It expires, so that a consumer that was killed is followed by the next one; whoever holds it renews it while it works.
"""

import contextlib
import threading
import time
from functools import cached_property
from typing import Any

from redis import RedisError
from redis.exceptions import LockError, RedisClusterException

from common.errors import StoreError
from common.exit_status import LOCKED
from common.settings import variable

KEY = "{hinet_events}:consumer"  # beside the queue
EXPIRY_SECONDS, RENEWAL_SECONDS = 20.0, 2.0  # between two renewals is a batch, of a second or two
PATIENCE_SECONDS, PAUSE_SECONDS = EXPIRY_SECONDS + 5.0, 0.5  # whoever holds the lock for longer is alive


class ConsumerRunningError(StoreError):
    """Another consumer applies the events."""

    exit_status = LOCKED


class ConsumerLock:
    """The lock in the Redis at an address, as HINET_REDIS has it; without one there is none to take.

    The Redis is not touched before the first use. Every method but `release` raises redis.RedisError where it does not
    answer.
    """

    def __init__(self, address: str | None) -> None:
        self.address, self._renewed = address, 0.0

    @cached_property
    def _lock(self) -> Any:
        from features.store.redis_client import redis_client  # feast, which a consumer that is refused never needs

        return redis_client(str(self.address)).lock(KEY, timeout=EXPIRY_SECONDS, thread_local=False)

    def wait(self, stop: threading.Event) -> None:
        """Take the lock, or wait until `stop` is set; the lock of a consumer that was killed expires meanwhile.

        Raises ConsumerRunningError where it does not.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._hold() and not stop.wait(PAUSE_SECONDS):
            if time.monotonic() > until:
                raise ConsumerRunningError(
                    f"the Redis of {variable('redis')} has a consumer already: one process applies its events, on one "
                    "machine; stop that one, and start this one again"
                )

    def renew(self) -> bool:
        """Renew the lock where that is due; False where another consumer has it by now."""
        return time.monotonic() - self._renewed < RENEWAL_SECONDS or self._hold()

    def release(self) -> None:
        """Release the lock, if it is held: where the Redis does not answer, it expires."""
        if self.address is not None:
            with contextlib.suppress(RedisError, RedisClusterException):
                self._lock.release()

    def _hold(self) -> bool:
        self._renewed = time.monotonic()
        return self.address is None or self._take()

    def _take(self) -> bool:
        try:
            return bool(self._lock.reacquire())
        except LockError:  # not taken yet, expired, or lost with the content of the Redis
            return bool(self._lock.acquire(blocking=False))
