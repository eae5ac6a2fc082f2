"""The number of rows: against the same weekdays, with the variation of the reference."""

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monitoring.detection.volume import compare_volume

pytestmark = pytest.mark.unit

MONDAY = date(2026, 1, 5)
WEEK = np.array([1000, 1000, 1000, 1000, 1000, 2000, 2000])


def histograms(rows: np.ndarray, first: date = MONDAY) -> Any:
    """Of two scenarios with so many rows a day, the second with a tenth of those of the first."""
    daily = np.stack([rows, rows // 10], axis=1)
    last = first + timedelta(days=len(rows) - 1)
    return SimpleNamespace(rows=daily, first_day=first, last_day=last, scenarios=("feed", "late"))


def feed(reference: np.ndarray, rows: list[int], **options: Any) -> dict[str, Any]:
    """The comparison of the first scenario, and `untested`; the window follows the reference."""
    first = MONDAY + timedelta(days=len(reference))
    days = options.pop("days", None)
    compared = compare_volume(
        histograms(reference), histograms(np.array(rows), first), days, fewest=options.pop("fewest", 50), **options
    )
    return compared["scenarios"][0] | {name: compared[name] for name in ("untested", "same_weekdays")}


def test_a_weekend_is_compared_with_weekends() -> None:
    """Twice the rows of a working day are usual there, half of them are not."""
    reference = np.tile(WEEK, 3)[:19]
    usual, low = feed(reference, [2000, 2000]), feed(reference, [1000, 1000])
    assert (usual["expected"], usual["change"], usual["same_weekdays"]) == (4000, 0, True)
    assert (low["change"], low["p_value"] < 1e-9, low["noise"]) == (-0.5, True, 0)


def test_in_a_short_reference_all_days_are_the_comparison() -> None:
    """Each weekday occurs once or twice: the rhythm of the week is then part of the noise."""
    short = feed(np.tile(WEEK, 2)[:8], [1000])
    assert not short["same_weekdays"]
    assert short["expected"] == 10_000 / 8
    assert short["noise"] > 0.5
    assert short["p_value"] > 0.1


def test_a_day_without_rows_counts_as_a_day() -> None:
    """The window was to have two days, and the second has no rows at all."""
    saturday = MONDAY + timedelta(days=19)
    outage = feed(np.tile(WEEK, 3)[:19], [2000], days=(saturday, saturday + timedelta(days=1)))
    assert (outage["expected"], outage["change"]) == (4000, -0.5)


def test_a_scenario_without_enough_usual_rows_is_not_tested() -> None:
    """The expected rows decide, so that a scenario that vanished is tested."""
    reference = np.tile(WEEK, 3)
    assert not feed(reference, [1000], fewest=1500)["enough_rows"]
    assert feed(reference, [0], fewest=900)["enough_rows"]


@pytest.mark.parametrize(
    ("reference", "options", "why"),
    [
        (np.tile(WEEK, 3), {"served": True}, "sample of the requests"),
        (WEEK[:3], {}, "only 3 days"),
    ],
)
def test_what_cannot_be_compared_is_not_tested(reference: np.ndarray, options: dict[str, Any], why: str) -> None:
    """With the reason."""
    entry = feed(reference, [1000], **options)
    assert why in entry["untested"]
    assert not entry["enough_rows"]


def test_parts_of_the_same_days_are_not_compared() -> None:
    """A split at random: the test rows are a tenth of every day."""
    compared = compare_volume(histograms(np.tile(WEEK, 3)), histograms(WEEK // 10), None, fewest=50)
    assert "days of the reference" in compared["untested"]


def test_without_a_change_p_values_are_not_small() -> None:
    """Of 300 logs of three weeks with Poisson rows at most one window has a p-value below 0.001."""
    small = 0
    for seed in range(300):
        rows = np.random.default_rng(seed).poisson(np.tile(WEEK, 3))
        small += feed(rows[:19], rows[19:].tolist())["p_value"] < 0.001
    assert small <= 1


def test_a_growing_log_is_its_own_noise() -> None:
    """Rows that double each week: the same comparison inside the reference has changed as much."""
    rows = (1000 * 2 ** (np.arange(21) / 7)).astype(int)
    entry = feed(rows[:20], [int(rows[20])])
    assert entry["change"] > 0.5
    assert entry["change"] < entry["noise"]
