"""The page on A/B tests is true: its commands and queries run, and the comparison has the planted answer."""

import contextlib
import dataclasses
import re
from datetime import timedelta
from pathlib import Path
from statistics import mean, variance

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.paths import ROOT
from common.settings import Settings, variable
from features.engine.arrow_types import arrow_schema
from monitoring.impression_window import impression_window
from serving.ranking.ab_split import CHALLENGER, CHAMPION, arm_of
from tests.support import world
from tests.support.impressions import NOON, impressions, open_log

TEXT = (ROOT / "docs" / "how-to" / "ab-test.md").read_text()
ARM, COMPARISON = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
USERS, ITEMS, RATES = range(60), (4, 1, 7, 2), {CHAMPION: 0.2, CHALLENGER: 0.7}
pytestmark = pytest.mark.integration


def clicks() -> dict[int, list[int]]:
    """The clicks of each user on ITEMS, at the rate of his arm."""
    random = np.random.default_rng(0)
    return {
        user: (random.random(len(ITEMS)) < RATES[arm_of(user, 0.5, "first")]).astype(int).tolist() for user in USERS
    }


def write_days(folder: Path) -> None:
    """The scored-impression log of an A/B test, and the events that came a minute later."""
    log = open_log(folder / "artifacts/served")
    for user in USERS:
        log.add(dataclasses.replace(impressions(user, items=ITEMS), arm=arm_of(user, 0.5, "first")), f"{user}", NOON)
    log.close()
    same = {"timestamp": NOON + timedelta(minutes=1), "scenario": "feed", "hour": 12, "order": None}
    events = [
        {"event_id": 10 * user + index, "user_id": user, "item_id": item, "click": click, **same}
        for user, of_user in clicks().items()
        for index, (item, click) in enumerate(zip(ITEMS, of_user, strict=True))
    ]
    path = folder / "events" / f"day={NOON.date()}" / "part-0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(events, arrow_schema(world.schema().events)), path)


def test_the_arms_are_compared_by_user(project: Path, tmp_path: Path) -> None:
    """Users, mean rates, gain and its interval are those of plain Python; the planted gain is found."""
    write_days(tmp_path)
    with contextlib.chdir(tmp_path):
        impression_window(
            log=Path("artifacts/served"),
            events=Path("events"),
            schema=project / "data/schema.json",
            views=project / "data/features/views.json",
            first_day=NOON.date(),
            last_day=NOON.date(),
            out=Path("artifacts/served.parquet"),
        )
        (row,) = duckdb.sql(COMPARISON).fetchall()
    by_user = clicks()
    rates = {arm: [mean(by_user[u]) for u in USERS if arm_of(u, 0.5, "first") == arm] for arm in (CHAMPION, CHALLENGER)}
    one, other = rates[CHAMPION], rates[CHALLENGER]
    half = 1.96 * (variance(one) / len(one) + variance(other) / len(other)) ** 0.5
    expected = (len(one), len(other), mean(one), mean(other), mean(other) - mean(one), half)
    assert row == pytest.approx(expected)
    assert row[4] > row[5], "the gain is beyond chance"


def test_the_arm_of_a_user_is_that_of_the_query() -> None:
    """For the user of the page, and for others in his place."""
    for user in (42, *range(100)):
        ((challenged,),) = duckdb.sql(ARM.replace("42", str(user))).fetchall()
        assert challenged == (arm_of(user, 0.1, "december") == CHALLENGER)


def test_the_variables_of_the_page_are_read() -> None:
    """Each HINET_ variable is a setting."""
    assert set(re.findall(r"HINET_\w+", TEXT)) <= {variable(name) for name in Settings.model_fields}
