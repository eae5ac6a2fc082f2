"""Command refresh: an online store in use is updated to the values of a store made from nothing."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import checksum_memo
from common.files import sha256_of_folder
from features.schema import EVENT_TIMESTAMP, read_views
from features.store.incremental import Watermark
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from features.store.online_store import WATERMARK, state_dir
from tests.support import world
from tests.support.examples import examples
from tests.support.refreshed_store import (
    DAY,
    FEATURES,
    FIRST,
    LAST,
    ONLINE,
    copy_offline_store,
    materialized,
    rewrite_view,
    stored,
    update,
)

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("without_data_docs")]


@pytest.fixture
def folder(project: Path, tmp_path: Path) -> Path:
    """A folder with the offline store of the tiny world and no online store."""
    return copy_offline_store(project, tmp_path / "project")


@settings(max_examples=examples(4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.sets(st.integers(0, 24 * 6), min_size=1, max_size=2))
def test_any_steps_give_the_store_made_from_nothing(
    project: Path, tmp_path_factory: pytest.TempPathFactory, hours: set[int]
) -> None:
    """Updated in steps to any hours, the store has the values and timestamps that Feast writes at once."""
    tmp_path = tmp_path_factory.mktemp("steps")
    folder = copy_offline_store(project, tmp_path / "project")
    for hour in sorted(hours):
        as_of = FIRST + timedelta(hours=hour)
        assert update(folder, as_of)["again"] is False
    assert stored(folder / ONLINE) == materialized(folder, as_of, tmp_path)


def test_a_second_run_writes_nothing(folder: Path) -> None:
    """The second run reports no rows written; the store is the same."""
    first = update(folder, FIRST)
    before = stored(folder / ONLINE)
    second = update(folder, FIRST)
    assert all(view["written"] for view in first["views"].values())
    assert not any(view["written"] for view in second["views"].values())
    assert stored(folder / ONLINE) == before


def test_unchanged_features_are_read_once_for_their_checksum(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second run names the same data in its report, without a look into the files."""
    monkeypatch.setattr(checksum_memo, "SETTLED_SECONDS", -60.0)
    first = update(folder, FIRST)["run"]["data"]
    monkeypatch.setattr(checksum_memo, "sha256_of", None)
    assert update(folder, FIRST + DAY)["run"]["data"] == first == sha256_of_folder(folder / FEATURES)


def test_a_store_beyond_the_target_is_not_changed(folder: Path) -> None:
    """A target before the watermark is skipped with a message that names it; a missing item snapshot is written."""
    update(folder, FIRST + DAY)
    before = stored(folder / ONLINE)
    item_snapshot_path(folder / ONLINE).unlink()
    assert "up to 2026-01-07 12:00 UTC already" in update(folder, FIRST)["skipped"]
    assert stored(folder / ONLINE) == before
    views = read_views(folder / FEATURES / "views.json")
    assert read_snapshot(item_snapshot_path(folder / ONLINE), world.schema(), views).as_of == FIRST + DAY


def test_a_late_row_is_written(folder: Path, tmp_path: Path) -> None:
    """Rows of yesterday that came today are written, although the watermark has passed them."""
    path = folder / FEATURES / "item.parquet"
    whole = shutil.copy(path, tmp_path)
    rewrite_view(folder, "item", f"select * from rows where item_id <> 4 or {EVENT_TIMESTAMP} < '2026-01-07'")
    update(folder, FIRST + DAY)
    shutil.copy(whole, path)
    count = update(folder, FIRST + DAY * 1.5)["views"]["item"]
    assert (count["written"], count["late"]) == (1, 1)
    assert stored(folder / ONLINE) == materialized(folder, FIRST + DAY * 1.5, tmp_path)


def test_a_late_row_does_not_replace_a_newer_one(folder: Path) -> None:
    """An entity's row of yesterday that comes after its row of today changes nothing."""
    update(folder, FIRST + DAY)
    before = stored(folder / ONLINE)
    yesterday = f"replace ({EVENT_TIMESTAMP} - interval 20 hour as {EVENT_TIMESTAMP}, 0 as price)"
    rewrite_view(
        folder,
        "item",
        f"select * from rows union all select * {yesterday} from rows where {EVENT_TIMESTAMP} = '2026-01-07 01:00:00'",
    )
    assert update(folder, FIRST + DAY)["views"]["item"]["written"] == 0
    assert stored(folder / ONLINE) == before


def test_a_row_older_than_the_online_one_is_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the offline store lost an entity's newest row, the one before is counted, then the store is rewritten."""
    update(folder, FIRST + DAY)
    rewrite_view(folder, "item", f"select * from rows where item_id <> 4 or {EVENT_TIMESTAMP} < '2026-01-06'")
    rewrite_view(
        folder,
        "item",
        f"select * replace (case when item_id = 4 then timestamp '2026-01-06 02:00:00' "
        f"else {EVENT_TIMESTAMP} end as {EVENT_TIMESTAMP}) from rows",
    )
    assert update(folder, FIRST + DAY)["again"]
    assert "item: 0 rows written, 8 unchanged, 1 older than what is online" in capsys.readouterr().out


def test_revised_values_are_written(folder: Path, tmp_path: Path) -> None:
    """A row within the overlap that was computed again with other values replaces the first."""
    update(folder, FIRST)
    rewrite_view(folder, "user", "select * replace (user_impressions_all + 1000 as user_impressions_all) from rows")
    report = update(folder, FIRST + DAY)
    assert not report["again"]
    assert stored(folder / ONLINE) == materialized(folder, FIRST + DAY, tmp_path)


def test_rows_of_the_future_are_left_out(folder: Path, tmp_path: Path) -> None:
    """A row dated 2126 is counted, not written, and the watermark does not follow it."""
    future = f"replace (timestamp '2126-01-01' as {EVENT_TIMESTAMP}, 999 as price)"
    rewrite_view(
        folder,
        "item",
        f"select * from rows union all (select * {future} from rows where item_id = 4 limit 1)",
    )
    assert update(folder, LAST)["views"]["item"]["later"] == 1
    assert Watermark.read(state_dir(folder / ONLINE) / WATERMARK).views["item"] == LAST
    assert stored(folder / ONLINE) == materialized(folder, LAST, tmp_path)


def test_a_store_with_other_columns_is_rewritten(folder: Path) -> None:
    """After a change of the views, the watermark of the old ones is ignored."""
    update(folder, FIRST)
    views = folder / FEATURES / "views.json"
    views.write_text(views.read_text() + "\n")
    assert update(folder, FIRST)["whole"]
