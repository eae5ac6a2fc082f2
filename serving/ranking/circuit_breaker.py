"""A circuit breaker: a read that fails or hangs costs a request a bounded time, and after some failures no time.

M. Nygard, Release It!, 2nd edition, 2018, Stability Patterns. While the circuit is closed, a request waits for its
read. While it is open, no request waits: one trial read at a time runs in the background, and the first that succeeds
closes the circuit.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
MAX_REASON = 200  # characters of an error's message: it may repeat the key that was read
THREADS = 8  # concurrent reads, including those that hang and were abandoned


class UnavailableError(Exception):
    """The read gave no value in time; the message is the reason."""


class TooSlowError(UnavailableError):
    """The read was waited for, and gave no value within its limit."""


class CircuitBreaker(Generic[Value]):
    """Calls `read` in a thread, waits `seconds` at most, and opens after `failures` consecutive failures.

    While the circuit is open, a trial read starts every `pause` seconds; it succeeds if it gives a value within
    `seconds`. A `bounded` read ends in time by itself: it is called without a thread, because waking a thread costs
    more than a short read. At most `threads` reads run at once, those that were abandoned among them.
    """

    def __init__(
        self,
        read: Callable[..., Value],
        *,
        seconds: float,
        failures: int,
        pause: float,
        bounded: bool = False,
        threads: int = THREADS,
    ) -> None:
        self.read, self.seconds, self.failures, self.pause, self.bounded = read, seconds, failures, pause, bounded
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="circuit breaker")
        self._lock = threading.Lock()
        self._failed, self._reason, self._next_trial = 0, "", 0.0
        self._trial: Future[None] | None = None

    @property
    def open(self) -> bool:
        """Whether calls fail without a read."""
        return self._failed >= self.failures

    def __call__(self, *arguments: Any) -> Value:
        """Return what `read` returns; raises UnavailableError if it fails, is too slow, or the circuit is open."""
        if self.open:
            error = UnavailableError(f"{self._reason}, {self._failed} times in a row")
            self._start_trial(arguments)
            raise error
        try:
            value = self.read(*arguments) if self.bounded else self._read_in_thread(arguments)
        except Exception as error:
            reason = str(error) if isinstance(error, UnavailableError) else _first_line(error)
            self._record_failure(reason)
            raise (TooSlowError if isinstance(error, TooSlowError) else UnavailableError)(reason) from None
        self._failed = 0
        return value

    def close(self) -> None:
        """Start no further read; reads that hang end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _read_in_thread(self, arguments: tuple[Any, ...]) -> Value:
        future = self._pool.submit(self.read, *arguments)
        try:
            return future.result(self.seconds)
        except TimeoutError:
            future.cancel()
            raise TooSlowError(self._too_slow()) from None

    def _record_failure(self, reason: str) -> None:
        with self._lock:
            self._failed, self._reason = self._failed + 1, reason
            self._next_trial = time.monotonic() + self.pause

    def _start_trial(self, arguments: tuple[Any, ...]) -> None:
        """Start a read in the background, unless one is running or the pause is not over."""
        with self._lock:
            if time.monotonic() < self._next_trial or (self._trial and not self._trial.done()):
                return
            self._next_trial = time.monotonic() + self.pause
            self._trial = self._pool.submit(self._try, arguments)
        self._trial.add_done_callback(self._close_if_successful)

    def _try(self, arguments: tuple[Any, ...]) -> None:
        """Read; raises TooSlowError where a request would not have waited for the value."""
        started = time.monotonic()
        self.read(*arguments)
        if not self.bounded and time.monotonic() - started > self.seconds:
            raise TooSlowError(self._too_slow())

    def _close_if_successful(self, trial: Future[None]) -> None:
        if not trial.cancelled() and trial.exception() is None:
            self._failed = 0

    def _too_slow(self) -> str:
        return f"no answer within {self.seconds * 1e3:.0f} ms"


def _first_line(error: BaseException) -> str:
    """The type of an error and the first line of its message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:MAX_REASON]}" if text else type(error).__name__
