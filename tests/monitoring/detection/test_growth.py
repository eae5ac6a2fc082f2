"""Statistics that grow with the history of the log: what their age explains is no drift, what it does not is."""

from datetime import date, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from common.params import Aggregate
from features.encoding.bins import Bins, Measure
from features.engine.feature_views import WHOLE_PAST, feature_views, history_days
from features.schema import Kind
from monitoring.detection.growth import NO_GROWTH, Growth, growth_of
from tests.support import world

pytestmark = pytest.mark.unit

DAYS = {"count_all": WHOLE_PAST, "count_7d": 7, "rate_all": WHOLE_PAST, "recent": WHOLE_PAST}
COUNT = Bins(name="count_all", column="count_all", kind=Kind.NUMERIC, edges=(0.0, 9.0), log=True)
WEEK = Bins(name="count_7d", column="count_7d", kind=Kind.NUMERIC, edges=(0.0, 9.0), log=True)
RATE = Bins(name="rate_all", column="rate_all", kind=Kind.NUMERIC, edges=(0.0, 1.0))
LENGTH = Bins(name="recent: length", column="recent", kind=Kind.SEQUENCE, edges=(0.0, 9.0), measure=Measure.LENGTH)
PRICE = Bins(name="price", column="price", kind=Kind.NUMERIC, edges=(0.0, 9.0))


def window(first: int, days: int, period: int = 1) -> Any:
    """A window of 100 rows a day from day `first` on."""
    return SimpleNamespace(
        first_day=date(2026, 1, 5) + timedelta(days=first),
        rows=np.full((days, 1), 100),
        counts={"price": np.zeros((-(-days // period), 1, 4))},
        period_days=period,
    )


def growth(bins: Bins, trained: int, first: int, days: int = 1, period: int = 1) -> Growth:
    """Of a reference of so many days, and a window that begins on day `first`."""
    return growth_of(bins, DAYS, window(0, trained, period), window(first, days))


def test_a_count_of_the_whole_past_grows_as_the_age_does() -> None:
    """Eight days have a mean age of 3.5 days, the tenth day one of 9: 2.6 times the mean, with a margin."""
    low, high = growth(COUNT, 8, 9).bounds or (0, 0)
    assert (low, high) == pytest.approx((1 / 1.5, 1.5 * 9 / 3.5))
    assert growth(COUNT, 8, 9) == growth(LENGTH, 8, 9)


def test_the_mean_of_a_rate_stays_while_its_spread_grows() -> None:
    """A smoothed rate begins as the overall one."""
    assert growth(RATE, 8, 9).bounds == pytest.approx((1 / 1.5, 1.5))


def test_days_with_a_short_history_leave_the_reference() -> None:
    """Of a statistic over seven days the first seven; of a reference in periods of two days, four periods."""
    assert growth(WEEK, 17, 19) == Growth(skipped=7)
    assert growth(WEEK, 40, 42, period=2) == Growth(skipped=4)


def test_a_young_log_has_no_day_with_a_whole_week_before_it() -> None:
    """Then the statistic over seven days grows as that of the whole past, up to seven days."""
    assert growth(WEEK, 8, 9).bounds == pytest.approx((1 / 1.5, 1.5 * 7 / 3.5))


def test_other_columns_and_old_logs_do_not_grow() -> None:
    """A price has no history; on day 400 of a log the age is that of the days before, when they are the reference."""
    assert growth(PRICE, 8, 9) == NO_GROWTH
    assert growth_of(COUNT, DAYS, window(0, 10), window(4, 2)) == NO_GROWTH


@pytest.mark.parametrize(
    ("factor", "explained"), [(1.0, True), (2.5, True), (0.1, False), (100.0, False), (None, True)]
)
def test_a_mean_that_the_age_does_not_explain_is_tested(factor: float | None, explained: bool) -> None:
    """Counters that were reset, or are in another unit."""
    assert growth(COUNT, 8, 9).explains(factor) is explained
    assert not NO_GROWTH.explains(factor)


def test_the_days_of_a_statistic_follow_from_its_name() -> None:
    """Those of the profile and the keys have none, even where their names look like a statistic's."""
    settings = Aggregate(windows=[7, 30], prior_impressions=20, recent_items=20, delay_minutes=60)
    schema = world.schema()
    days = history_days(schema, feature_views(schema, settings))
    assert days["item_impressions_7d"] == 7
    assert days["user_in_scenario_click_rate_30d"] == 30
    assert days["user_impressions_all"] == days["user_recent_items"] == WHOLE_PAST
    declared = {column.name for table in schema.tables.values() for column in table}
    assert not declared & days.keys()
