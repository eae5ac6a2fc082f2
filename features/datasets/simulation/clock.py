"""Timestamps of the simulation, in microseconds since 1970 (UTC): days, weekdays, and hours at which users order."""

import datetime

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

HOUR = 3_600_000_000  # microseconds
DAY = 24 * HOUR

# Impressions by hour of the day; one scenario has hours that differ from those of the others.
MEAL_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 7, 7, 6, 8, 14, 15, 10, 7, 6, 8, 13, 16, 14, 10, 8, 6, 4])
NIGHT_HOURS = np.array([16, 12, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 10, 16, 18])


def draw_timestamps(random: np.random.Generator, midnight: int | Integers, at_night: NDArray[np.bool_]) -> Integers:
    """Draw timestamps [N] of the day that begins at `midnight`: by night where `at_night`, else around the meals."""
    meals, night = (
        random.choice(24, len(at_night), p=by_hour / by_hour.sum()) for by_hour in (MEAL_HOURS, NIGHT_HOURS)
    )
    return midnight + HOUR * np.where(at_night, night, meals) + random.integers(0, HOUR, len(at_night))


def midnight_of(day: datetime.date) -> int:
    """The timestamp at which `day` begins."""
    return (day - datetime.date(1970, 1, 1)).days * DAY


def hour(timestamp: Integers) -> Integers:
    """Hour of the day [N], 0 to 23."""
    return timestamp // HOUR % 24


def weekday(timestamp: Integers) -> Integers:
    """Day of the week [N], Monday 0; 1970-01-01 was a Thursday."""
    return (timestamp // DAY + 3) % 7
