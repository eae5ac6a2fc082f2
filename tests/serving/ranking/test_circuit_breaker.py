"""The circuit breaker: a bounded wait, then none, and a recovery that costs no request."""

import threading
import time
from collections.abc import Iterator

import pytest

from serving.ranking.circuit_breaker import CircuitBreaker, UnavailableError
from tests.support.waiting import wait_until

pytestmark = pytest.mark.unit


class Read:
    """A read that succeeds, fails (`fails`) or hangs (while `released` is not set); `calls` are counted."""

    def __init__(self) -> None:
        self.calls, self.fails, self.released = 0, False, threading.Event()
        self.threads: list[int] = []
        self.released.set()

    def __call__(self, number: int) -> int:
        """Return twice the number."""
        self.calls += 1
        self.threads.append(threading.get_ident())
        self.released.wait(10)
        if self.fails:
            raise ConnectionError("refused\nand more")
        return 2 * number


@pytest.fixture
def read() -> Iterator[Read]:
    """A read that is released after the test."""
    made = Read()
    yield made
    made.released.set()


def breaker_of(read: Read, **changes: float) -> CircuitBreaker[int]:
    """A breaker around `read` that opens after two failures and tries again at once."""
    return CircuitBreaker(read, **{"seconds": 0.05, "failures": 2, "pause": 0.0} | changes)  # type: ignore[arg-type]


def reason_of_failure(breaker: CircuitBreaker[int]) -> str:
    """The reason why a call has no value."""
    with pytest.raises(UnavailableError) as caught:
        breaker(1)
    return str(caught.value)


def test_a_closed_breaker_returns_what_the_read_returns(read: Read) -> None:
    """The value passes through."""
    assert breaker_of(read)(21) == 42


def test_a_failed_read_is_reported_in_one_line(read: Read) -> None:
    """The reason is the type of the error and its first line."""
    read.fails = True
    assert reason_of_failure(breaker_of(read)) == "ConnectionError: refused"


def test_a_read_that_hangs_is_abandoned_after_its_timeout(read: Read) -> None:
    """The call ends though the read does not."""
    read.released.clear()
    started = time.monotonic()
    assert reason_of_failure(breaker_of(read)) == "no answer within 50 ms"
    assert time.monotonic() - started < 1


def test_an_open_breaker_does_not_wait(read: Read) -> None:
    """After two timeouts a hundred calls take less than ten, and one trial read at a time runs."""
    read.released.clear()
    breaker = breaker_of(read)
    reason_of_failure(breaker), reason_of_failure(breaker)
    assert breaker.open
    started = time.monotonic()
    assert {reason_of_failure(breaker) for _ in range(100)} == {"no answer within 50 ms, 2 times in a row"}
    assert time.monotonic() - started < 0.5
    assert read.calls == 3


def test_a_success_resets_the_count_of_failures(read: Read) -> None:
    """The breaker opens after consecutive failures, not after as many in total."""
    breaker = breaker_of(read)
    for fails in (True, False, True):
        read.fails = fails
        reason_of_failure(breaker) if fails else breaker(1)
    assert not breaker.open


def test_the_first_successful_trial_closes_it(read: Read) -> None:
    """The call that starts the trial does not wait for it; the next one has a value."""
    read.fails = True
    breaker = breaker_of(read)
    reason_of_failure(breaker), reason_of_failure(breaker)
    read.fails = False
    reason_of_failure(breaker)
    wait_until(lambda: not breaker.open)
    assert breaker(4) == 8


def test_a_trial_that_is_too_slow_is_no_success(read: Read) -> None:
    """A read that gives its value after the limit would be waited for in vain: the circuit stays open."""
    read.released.clear()
    breaker = breaker_of(read)
    reason_of_failure(breaker), reason_of_failure(breaker), reason_of_failure(breaker)
    wait_until(lambda: read.calls == 3)
    time.sleep(0.1)
    read.released.set()
    trial = breaker._trial
    assert trial is not None
    wait_until(trial.done)
    assert breaker.open
    reason_of_failure(breaker)
    wait_until(lambda: not breaker.open)


def test_no_trial_starts_within_the_pause(read: Read) -> None:
    """An open breaker reads no more often than every `pause` seconds."""
    read.fails = True
    breaker = breaker_of(read, pause=60.0)
    reason_of_failure(breaker), reason_of_failure(breaker)
    [reason_of_failure(breaker) for _ in range(10)]
    assert read.calls == 2


def test_a_bounded_read_runs_in_the_calling_thread(read: Read) -> None:
    """Only the trials of an open breaker run in another thread."""
    breaker, here = breaker_of(read, bounded=True), threading.get_ident()
    assert breaker(3) == 6
    read.fails = True
    assert reason_of_failure(breaker) == reason_of_failure(breaker) == "ConnectionError: refused"
    assert read.threads == [here] * 3
    read.fails = False
    assert reason_of_failure(breaker) == "ConnectionError: refused, 2 times in a row"
    wait_until(lambda: not breaker.open)
    assert read.threads[3] != here
    assert breaker(4) == 8
