"""The offline store: the Parquet files of the feature views."""

from pathlib import Path

import pytest

from features.schema import read_views
from features.store.offline_store import newest_timestamp
from tests.support import world

pytestmark = pytest.mark.integration


def test_the_newest_timestamp_is_the_morning_after_the_last_day(tmp_path: Path) -> None:
    """The newest row is that of the day after the log's last one, known an hour after midnight."""
    featured = world.write_features(tmp_path, world.tables(rows=600))
    newest = newest_timestamp(read_views(featured / "features" / "views.json"), featured / "features")
    assert newest.isoformat() == "2026-01-11T01:00:00+00:00"
