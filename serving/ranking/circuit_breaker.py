"""A circuit breaker: a read that may fail or hang costs a request a bounded time, and after some failures none.

M. Nygard, Release It!, 2nd edition, 2018, Stability Patterns. Closed, every read is waited for. Open, none is: one at a
time is tried beside the requests, and the first that succeeds closes it.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")
THREADS = 8  # reads under way at once, of them those that hang and were given up


class UnavailableError(Exception):
    """There is no answer in time; the message is the reason."""


class Breaker(Generic[Found]):
    """Calls `read` in a thread, waits `seconds` at most, and opens after so many `failures` in a row.

    While it is open a read is tried every `pause` seconds, and no request waits for it. A `bounded` read ends in time
    by itself: it is called without a thread, for to wake one and to be woken by it costs more than a short read.
    """

    def __init__(
        self, read: Callable[..., Found], *, seconds: float, failures: int, pause: float, bounded: bool = False
    ) -> None:
        self.read, self.seconds, self.failures, self.pause, self.bounded = read, seconds, failures, pause, bounded
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="online store")
        self._lock = threading.Lock()
        self._failed, self._reason, self._due = 0, "", 0.0
        self._trial: Future[Found] | None = None

    @property
    def open(self) -> bool:
        """Whether reads are given up before they are made."""
        return self._failed >= self.failures

    def __call__(self, *asked: Any) -> Found:
        """What `read` finds; raises UnavailableError where it fails, is too slow, or was so too often."""
        if self.open:
            error = UnavailableError(f"{self._reason}, {self._failed} times in a row")
            self._try(asked)
            raise error
        try:
            found = self.read(*asked) if self.bounded else self._in_thread(asked)
        except Exception as error:
            reason = str(error) if isinstance(error, UnavailableError) else _line(error)
            self._fail(reason)
            raise UnavailableError(reason) from None
        self._failed = 0
        return found

    def close(self) -> None:
        """Start nothing more; reads that hang end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _in_thread(self, asked: tuple[Any, ...]) -> Found:
        future = self._pool.submit(self.read, *asked)
        try:
            return future.result(self.seconds)
        except TimeoutError:
            future.cancel()
            raise UnavailableError(f"no answer within {self.seconds * 1e3:.0f} ms") from None

    def _fail(self, reason: str) -> None:
        with self._lock:
            self._failed, self._reason = self._failed + 1, reason
            self._due = time.monotonic() + self.pause

    def _try(self, asked: tuple[Any, ...]) -> None:
        """Start a read that nobody waits for, unless one is under way or it is too early."""
        with self._lock:
            if time.monotonic() < self._due or (self._trial and not self._trial.done()):
                return
            self._due = time.monotonic() + self.pause
            self._trial = self._pool.submit(self.read, *asked)
        self._trial.add_done_callback(self._tried)

    def _tried(self, trial: Future[Found]) -> None:
        if not trial.cancelled() and trial.exception() is None:
            self._failed = 0


def _line(error: BaseException) -> str:
    """The first line of an error, with its type."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
