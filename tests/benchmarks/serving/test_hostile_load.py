"""The verdict on a load of hostile requests: slope of the memory, workers that ended, server errors."""

from random import Random
from typing import Any

import pytest

from benchmarks.serving.hostile_load import MIN_SECONDS, assess, slope
from benchmarks.serving.hostile_requests import KINDS

HOUR = 3600.0
pytestmark = pytest.mark.unit


def samples(growth: float, *, normal: int = 200, last: str = "1") -> list[dict[str, Any]]:
    """Samples of an hour of a worker that grows by 100 MB in the first quarter, then by `growth` MB per hour."""
    times = [10.0 * index for index in range(360)]
    memory = [400 + min(100, second / 9) + growth * second / HOUR for second in times]
    pids = ["1"] * 359 + [last]
    return [
        {"seconds": second, "private": {pid: mb}, "normal": normal}
        for second, mb, pid in zip(times, memory, pids, strict=True)
    ]


@pytest.mark.parametrize("growth", [0.0, 5.0, 200.0, -30.0])
def test_the_slope_is_that_after_the_warm_up(growth: float) -> None:
    """In MB per hour; what is filled at the start does not count."""
    assert slope(samples(growth), "1") == pytest.approx(growth, abs=0.5)


def test_a_flat_hour_passes() -> None:
    """And a shorter one has no verdict on its memory."""
    report = assess(samples(1.0), {"long_id": {"422": 5}}, HOUR)
    assert (report["flat"], report["passed"], report["requests"]) == (True, True, 5)
    assert assess(samples(200.0), {}, MIN_SECONDS - 1)["flat"] is None


@pytest.mark.parametrize(
    ("changed", "answers"),
    [({"growth": 200.0}, {}), ({"last": "2"}, {}), ({"normal": 503}, {}), ({}, {"long_id": {"422": 5, "500": 1}})],
    ids=["grows", "a worker ended", "normal requests are not answered", "a 500"],
)
def test_growth_an_end_an_outage_and_a_server_error_do_not_pass(changed: Any, answers: Any) -> None:
    """Each of them alone."""
    assert not assess(samples(**{"growth": 1.0} | changed), answers, HOUR)["passed"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_requests_are_the_same_for_the_same_seed(kind: Any) -> None:
    """A request that finds a fault can be sent again."""
    valid = {"user_id": 1, "scenario": "feed", "candidates": [1, 2, 3]}
    assert kind(Random(1), valid) == kind(Random(1), valid) != b""
