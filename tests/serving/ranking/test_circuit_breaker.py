"""The circuit breaker: a bounded wait, then none, and a way back that costs no request."""

import threading
import time
from collections.abc import Iterator

import pytest

from serving.ranking.circuit_breaker import CircuitBreaker, UnavailableError


class Read:
    """A read that answers, fails or hangs as it is told; `calls` counts."""

    def __init__(self) -> None:
        self.calls, self.fails, self.hangs = 0, False, threading.Event()
        self.threads: list[int] = []
        self.hangs.set()

    def __call__(self, asked: int) -> int:
        """Twice what was asked."""
        self.calls += 1
        self.threads.append(threading.get_ident())
        self.hangs.wait(10)
        if self.fails:
            raise ConnectionError("refused\nand more")
        return 2 * asked


@pytest.fixture
def read() -> Iterator[Read]:
    """A read, which hangs no more after the test."""
    made = Read()
    yield made
    made.hangs.set()


def breaker(read: Read, **changes: float) -> CircuitBreaker[int]:
    """A breaker around `read` that opens after two failures and tries again at once."""
    return CircuitBreaker(read, **{"seconds": 0.05, "failures": 2, "pause": 0.0} | changes)  # type: ignore[arg-type]


def fail(made: CircuitBreaker[int]) -> str:
    """The reason why there is no answer."""
    with pytest.raises(UnavailableError) as caught:
        made(1)
    return str(caught.value)


def settle(made: CircuitBreaker[int]) -> None:
    """Wait until it is closed."""
    until = time.monotonic() + 5
    while made.open:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_closed_it_answers(read: Read) -> None:
    """What the read finds comes back."""
    assert breaker(read)(21) == 42


def test_a_failure_is_told_in_a_line(read: Read) -> None:
    """The type of the error and its first line."""
    read.fails = True
    assert fail(breaker(read)) == "ConnectionError: refused"


def test_a_read_that_hangs_is_given_up(read: Read) -> None:
    """After the time that was set; the request goes on."""
    read.hangs.clear()
    started = time.monotonic()
    assert fail(breaker(read)) == "no answer within 50 ms"
    assert time.monotonic() - started < 1


def test_after_failures_in_a_row_no_request_waits(read: Read) -> None:
    """Open, a request costs next to nothing, and one read at a time is under way."""
    read.hangs.clear()
    made = breaker(read)
    fail(made), fail(made)
    assert made.open
    started = time.monotonic()
    assert {fail(made) for _ in range(100)} == {"no answer within 50 ms, 2 times in a row"}
    assert time.monotonic() - started < 0.5
    assert read.calls == 3


def test_a_success_between_failures_counts_anew(read: Read) -> None:
    """It opens after failures in a row, not in all."""
    made = breaker(read)
    for fails in (True, False, True):
        read.fails = fails
        fail(made) if fails else made(1)
    assert not made.open


def test_the_first_read_that_succeeds_closes_it(read: Read) -> None:
    """The request that starts it does not wait for it; the next one has the answer."""
    read.fails = True
    made = breaker(read)
    fail(made), fail(made)
    read.fails = False
    fail(made)
    settle(made)
    assert made(4) == 8


def test_it_tries_no_more_often_than_it_was_told(read: Read) -> None:
    """Within the pause no read is started at all."""
    read.fails = True
    made = breaker(read, pause=60.0)
    fail(made), fail(made)
    [fail(made) for _ in range(10)]
    assert read.calls == 2


def test_a_bounded_read_wakes_no_thread(read: Read) -> None:
    """It runs where it is asked for; only what is tried while the breaker is open does not."""
    made, here = breaker(read, bounded=True), threading.get_ident()
    assert made(3) == 6
    read.fails = True
    assert fail(made) == fail(made) == "ConnectionError: refused"
    assert read.threads == [here] * 3
    read.fails = False
    assert fail(made) == "ConnectionError: refused, 2 times in a row"
    settle(made)
    assert read.threads[3] != here
    assert made(4) == 8
