"""Timestamps of the SQLite online store: what one process wrote, another reads, wherever each of them runs."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from features.store.sqlite_timestamps import COLUMN_TYPE, set_utc_timestamps

pytestmark = pytest.mark.unit
ZONES = ("UTC", "Asia/Tokyo", "America/St_Johns", "Europe/Berlin", "Pacific/Kiritimati")
SKIPPED = datetime(2026, 3, 29, 2, 30)  # an hour that Berlin's clocks skip
REPEATED = datetime(2026, 10, 25, 2, 30)


@contextlib.contextmanager
def time_zone(name: str) -> Iterator[None]:
    """A process in the time zone `name`."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()


@example(when=SKIPPED, zone="Europe/Berlin", other="UTC")
@example(when=REPEATED, zone="Europe/Berlin", other="Europe/Berlin")
@example(when=datetime.min, zone="Pacific/Kiritimati", other="Asia/Tokyo")
@given(when=st.datetimes(), zone=st.sampled_from(ZONES), other=st.sampled_from(ZONES))
def test_a_timestamp_is_the_same_in_every_zone(when: datetime, zone: str, other: str) -> None:
    """Written as UTC in one zone and read in another: the same second, stored as seconds since 1970."""
    when = when.replace(microsecond=0)
    set_utc_timestamps()
    with contextlib.closing(sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_DECLTYPES)) as connection:
        connection.execute(f"create table rows (event_ts {COLUMN_TYPE})")
        with time_zone(zone):
            connection.execute("insert into rows values (?)", [when])
        with time_zone(other):
            ((read,),) = connection.execute("select event_ts from rows")
        ((stored,),) = connection.execute("select cast(event_ts as integer) as seconds from rows")
    assert read.astimezone(UTC) == when.replace(tzinfo=UTC)
    assert stored == (when - datetime(1970, 1, 1)).total_seconds()
