"""Visits of the simulation: impressions that follow each other, and clicks that depend on those before."""

import numpy as np
import pandas as pd
import pytest

from features.datasets.simulation.design import FATIGUE, FATIGUE_SHOWN, INTEREST
from features.datasets.simulation.platform import build_platform, sigmoid
from tests.support.simulation_log import dataset, events

pytestmark = pytest.mark.unit

SIZE = {"impressions": 60_000, "users": 800, "items": 300, "days": 7}


@pytest.fixture(scope="module")
def visits() -> pd.DataFrame:
    """A log by user, day and time, with the cuisine of each item, and `plain`: the probability without effect."""
    log, plain = events(**SIZE, session_effect=1), events(**SIZE, session_effect=1e-9)
    assert (log["timestamp"] == plain["timestamp"]).all()
    cuisine = build_platform(dataset(**SIZE).simulation).items.cuisine[log["item_id"] - 1]
    log = log.assign(day=log["timestamp"].dt.date, cuisine=cuisine, plain=plain["p_click"])
    return log.sort_values(["user_id", "day", "timestamp"], kind="stable")


def test_the_impressions_of_a_visit_are_seconds_apart(visits: pd.DataFrame) -> None:
    """Within a day a user's impressions follow each other, and no item is shown before it is listed."""
    gaps = visits.groupby(["user_id", "day"])["timestamp"].diff().dropna().dt.total_seconds()
    assert 35 < gaps.mean() < 45
    platform = build_platform(dataset(**SIZE).simulation)
    listed = platform.items.since[visits["item_id"] - 1].astype("datetime64[us]")
    assert (visits["timestamp"] >= listed).all()


def test_the_true_probability_is_that_after_what_was_shown_and_clicked(visits: pd.DataFrame) -> None:
    """By a loop over each visit: more after a click on the cuisine, less after each item of it shown in vain."""
    added = []
    for _, visit in visits.groupby(["user_id", "day"]):
        clicked, ignored = np.zeros(12), np.zeros(12)
        for cuisine, click in zip(visit["cuisine"], visit["click"], strict=True):
            added.append(INTEREST * (clicked[cuisine] > 0) - FATIGUE * min(ignored[cuisine], FATIGUE_SHOWN))
            clicked[cuisine] += click
            ignored[cuisine] += 1 - click
    assert len(set(added)) > 5
    plain = np.log(visits["plain"] / (1 - visits["plain"]))
    np.testing.assert_allclose(visits["p_click"], sigmoid(plain + added), atol=1e-6)


def test_clicks_are_drawn_from_the_true_probability(visits: pd.DataFrame) -> None:
    """In tenths of the probability, the share of clicks is its mean."""
    tenth = pd.qcut(visits["p_click"], 10)
    means = visits.groupby(tenth, observed=True)[["p_click", "click"]].mean()
    error = np.sqrt(means["p_click"] * (1 - means["p_click"]) / (len(visits) / 10))
    assert ((means["click"] - means["p_click"]).abs() < 5 * error).all()
