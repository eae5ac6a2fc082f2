"""A queue that is bounded in entries and in bytes: for what waits until a thread has time for it."""

import queue
import threading
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class ByteQueue(Generic[Entry]):
    """Holds at most `entries`, of at most `size` bytes together; a single entry may be larger.

    None in the queue asks the thread that empties it to end.
    """

    def __init__(self, entries: int, size: int) -> None:
        self.limit, self.held = size, 0
        self._queue: queue.Queue[tuple[int, Entry | None]] = queue.Queue(entries)
        self._lock = threading.Lock()

    def put_nowait(self, entry: Entry, size: int) -> None:
        """Add an entry of about `size` bytes; raises queue.Full."""
        with self._lock:
            if self.held and self.held + size > self.limit:
                raise queue.Full
            self._queue.put_nowait((size, entry))
            self.held += size

    def empty(self) -> bool:
        """Whether nothing waits."""
        return self._queue.empty()

    def end(self, timeout: float) -> None:
        """Add None, for which there is room in bytes always; raises queue.Full after `timeout` seconds."""
        self._queue.put((0, None), timeout=timeout)

    def get(self, timeout: float | None = None) -> Entry | None:
        """Remove and return the oldest entry; raises queue.Empty after `timeout` seconds."""
        size, entry = self._queue.get(timeout=timeout)
        with self._lock:
            self.held -= size
        return entry
