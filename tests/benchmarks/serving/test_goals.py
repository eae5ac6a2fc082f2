"""The goals of the serving benchmark: reached at their limits, and not beyond."""

from typing import Any

import pytest

from benchmarks.serving.goals import goals

pytestmark = pytest.mark.unit


def report(
    p99: float = 10.0, errors: int = 0, ours: float = 800.0, service: float = 3.0, degraded: float = 5.0
) -> dict[str, Any]:
    """The measurements that the goals read."""
    point = {
        "candidates": 200,
        "rate": 100,
        "state": "warm",
        "store": "sqlite",
        "workers": 1,
        "p99": p99,
        "errors": errors,
    }
    rates = [
        {"server": server, "workers": workers, "answers_per_second": rate}
        for server, rate in (("ours", ours), ("plain", 100.0), ("bare", 9e3))
        for workers in (1, 2)
    ]
    inside = {"200": {name: {"median": ms} for name, ms in (("service", service), ("feast", 1.0), ("forward", 1.0))}}
    inside["200"]["degraded"] = {"median": 1.0, "p99": degraded}
    return {"points": [point, point | {"state": "cold", "p99": 1e6}], "throughput": rates, "inside": inside}


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({}, [True, True, True, True, True]),
        ({"p99": 15.1}, [False, True, True, True, True]),
        ({"errors": 1}, [False, True, True, True, True]),  # fast refusals are no answers
        ({"ours": 799.0}, [True, False, False, True, True]),
        ({"service": 3.1}, [True, True, True, False, True]),
        ({"degraded": 5.1}, [True, True, True, True, False]),
    ],
)
def test_a_goal_is_reached_at_its_limit_and_not_beyond(changes: dict[str, Any], reached: list[bool]) -> None:
    """p99 of warm points, throughput over the plain service's, service time over its parts, degraded answers."""
    results = goals(report(**changes))
    assert [goal["reached"] for goal in results] == reached
    assert results[0]["goal"] == "200 candidates at 100/s, sqlite, 1 workers: p99, ms"
