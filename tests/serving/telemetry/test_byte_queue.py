"""The queue that is bounded in entries and in bytes."""

import queue
import random
import sys

import pytest

from serving.telemetry.byte_queue import ByteQueue

pytestmark = pytest.mark.unit


def test_what_waits_is_bounded_in_entries_and_in_bytes() -> None:
    """Whatever is put and taken, at most so many entries and bytes wait, unless a single entry is larger."""
    waiting: ByteQueue[int] = ByteQueue(5, 100)
    drawn, sizes = random.Random(1), []
    for _ in range(2000):
        if drawn.random() < 0.4 and sizes:
            assert waiting.get(timeout=0) == sizes.pop(0)
            continue
        size = drawn.choice([0, 1, 20, 60, 1000])
        try:
            waiting.put_nowait(size, size)
            sizes.append(size)
        except queue.Full:
            assert len(sizes) == 5 or sum(sizes) + size > 100
        assert len(sizes) <= 5
        assert waiting.held == sum(sizes) <= max(100, *sizes, 0)


def test_a_queue_that_is_full_of_bytes_takes_the_request_to_end() -> None:
    """None is put behind what waits; without room for an entry it is not."""
    waiting: ByteQueue[str] = ByteQueue(2, 10)
    waiting.put_nowait("large", 1000)
    waiting.end(timeout=0)
    with pytest.raises(queue.Full):
        waiting.end(timeout=sys.float_info.epsilon)
    assert [waiting.get(), waiting.get()] == ["large", None]
    with pytest.raises(queue.Empty):
        waiting.get(timeout=0)
