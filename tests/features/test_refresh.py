"""An online store in use is brought up to a moment: the values of a store made from nothing, at less cost."""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.errors import ParameterError, StoreError, ValidationError
from common.exit_status import LOCKED
from common.paths import ROOT
from features import refresh as refreshing
from features.quality import gate
from features.quality import online_store as quality
from features.refresh import refresh
from features.schema import EVENT_TIMESTAMP, read_views
from features.store import online_store
from features.store.definitions import open_store
from features.store.incremental import BEGINNING, Watermark
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from features.store.online_store import WATERMARK, StoreUnavailableError, state_dir
from tests.support import world

FIRST, DAY = datetime(2026, 1, 6, 12, tzinfo=UTC), timedelta(days=1)
LAST = FIRST + DAY * 5  # after the last snapshot
ONLINE, OUT, FEATURES = Path("online/online.db"), Path("out"), Path("data/features")
Stored = dict[tuple[str, bytes, str], tuple[bytes, int]]


@pytest.fixture(autouse=True)
def _without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data Docs are tested by themselves, and take longer than all the rest."""
    monkeypatch.setattr(gate.datadocs, "build", lambda *values, **named: None)


@pytest.fixture
def place(project: Path, tmp_path: Path) -> Path:
    """A folder with the offline store of the tiny world, to change, and no online store yet."""
    return copy(project, tmp_path / "place")


def copy(project: Path, place: Path) -> Path:
    """The offline store of `project` in another folder."""
    shutil.copytree(project / FEATURES, place / FEATURES)
    shutil.copy(project / "data/schema.json", place / "data")
    world.write_params(place)
    return place


def bring(place: Path, moment: datetime) -> dict[str, Any]:
    """Refresh up to `moment`; what it wrote down."""
    with contextlib.chdir(place):
        refresh(
            schema=Path("data/schema.json"),
            features=FEATURES,
            online=ONLINE,
            as_of=moment,
            out=OUT,
        )
        return json.loads((OUT / "refresh.json").read_text())


def stored(online: Path) -> Stored:
    """Every value of an online store with the moment that it is of."""
    with contextlib.closing(sqlite3.connect(online)) as connection:
        return {
            (view, key, name): (value, moment)
            for view in ("user", "item", "user_in_scenario")
            for key, name, value, moment in connection.execute(
                f"select entity_key, feature_name, value, event_ts from hinet_{view}"
            )
        }


def from_nothing(place: Path, moment: datetime, tmp_path: Path) -> Stored:
    """What Feast writes into an empty store as of `moment`."""
    online = tmp_path / f"{moment:%d%H}.db"
    online.unlink(missing_ok=True)
    views = read_views(place / FEATURES / "views.json")
    store = open_store(
        world.schema(), views, features=place / FEATURES, online=online, registry=tmp_path / "registry.db"
    )
    store.materialize(BEGINNING, moment)
    return stored(online)


def change(place: Path, view: str, query: str) -> None:
    """Replace the Parquet file of a view by what `query` makes of it (`rows`)."""
    path = place / FEATURES / f"{view}.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table rows as select * from read_parquet('{path}')")
        connection.execute(f"copy ({query}) to '{path}' (format parquet)")


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hours=st.sets(st.integers(0, 24 * 6), min_size=1, max_size=2))
def test_any_way_there_gives_the_store_made_from_nothing(
    project: Path, tmp_path_factory: pytest.TempPathFactory, hours: set[int]
) -> None:
    """Brought up in steps to any hours, it holds value by value and moment by moment what Feast writes at once."""
    tmp_path = tmp_path_factory.mktemp("steps")
    place = copy(project, tmp_path / "place")
    for hour in sorted(hours):
        moment = FIRST + timedelta(hours=hour)
        assert bring(place, moment)["again"] is False
    assert stored(place / ONLINE) == from_nothing(place, moment, tmp_path)


def test_twice_is_once(place: Path) -> None:
    """The second run writes nothing, and says so; the store is the same."""
    first = bring(place, FIRST)
    before = stored(place / ONLINE)
    second = bring(place, FIRST)
    assert all(view["written"] for view in first["views"].values())
    assert not any(view["written"] for view in second["views"].values())
    assert stored(place / ONLINE) == before


def test_what_was_brought_further_is_left_alone(place: Path) -> None:
    """A moment before the watermark is skipped with a sentence that names it; a snapshot that lacks is written."""
    bring(place, FIRST + DAY)
    before = stored(place / ONLINE)
    item_snapshot_path(place / ONLINE).unlink()
    assert "up to 2026-01-07 12:00 UTC already" in bring(place, FIRST)["skipped"]
    assert stored(place / ONLINE) == before
    views = read_views(place / FEATURES / "views.json")
    assert read_snapshot(item_snapshot_path(place / ONLINE), world.schema(), views).moment == FIRST + DAY


def test_a_late_row_gets_in(place: Path, tmp_path: Path) -> None:
    """Rows of yesterday that were not there yesterday are written, though the watermark has passed them."""
    path = place / FEATURES / "item.parquet"
    whole = shutil.copy(path, tmp_path)
    change(place, "item", f"select * from rows where item_id <> 4 or {EVENT_TIMESTAMP} < '2026-01-07'")
    bring(place, FIRST + DAY)
    shutil.copy(whole, path)
    count = bring(place, FIRST + DAY * 1.5)["views"]["item"]
    assert (count["written"], count["late"]) == (1, 1)
    assert stored(place / ONLINE) == from_nothing(place, FIRST + DAY * 1.5, tmp_path)


def test_a_late_row_does_not_replace_a_newer_one(place: Path) -> None:
    """An entity's row of yesterday that comes after that of today changes nothing."""
    bring(place, FIRST + DAY)
    before = stored(place / ONLINE)
    yesterday = f"replace ({EVENT_TIMESTAMP} - interval 20 hour as {EVENT_TIMESTAMP}, 0 as price)"
    change(
        place,
        "item",
        f"select * from rows union all select * {yesterday} from rows where {EVENT_TIMESTAMP} = '2026-01-07 01:00:00'",
    )
    assert bring(place, FIRST + DAY)["views"]["item"]["written"] == 0
    assert stored(place / ONLINE) == before


def test_an_older_row_than_what_is_online_stays_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the offline store has lost an entity's newest row, the one before is counted, and then all is redone."""
    bring(place, FIRST + DAY)
    change(place, "item", f"select * from rows where item_id <> 4 or {EVENT_TIMESTAMP} < '2026-01-06'")
    change(
        place,
        "item",
        f"select * replace (case when item_id = 4 then timestamp '2026-01-06 02:00:00' "
        f"else {EVENT_TIMESTAMP} end as {EVENT_TIMESTAMP}) from rows",
    )
    assert bring(place, FIRST + DAY)["again"]
    assert "item: 0 rows written, 8 unchanged, 1 older than what is online" in capsys.readouterr().out


def test_revised_values_get_in(place: Path, tmp_path: Path) -> None:
    """A snapshot within the overlap that was made again with other values replaces the first."""
    bring(place, FIRST)
    change(place, "user", "select * replace (user_impressions_all + 1000 as user_impressions_all) from rows")
    found = bring(place, FIRST + DAY)
    assert not found["again"]
    assert stored(place / ONLINE) == from_nothing(place, FIRST + DAY, tmp_path)


def test_the_future_stays_out(place: Path, tmp_path: Path) -> None:
    """A row dated 2126 is counted, not written, and the watermark does not follow it."""
    future = f"replace (timestamp '2126-01-01' as {EVENT_TIMESTAMP}, 999 as price)"
    change(
        place,
        "item",
        f"select * from rows union all (select * {future} from rows where item_id = 4 limit 1)",
    )
    assert bring(place, LAST)["views"]["item"]["later"] == 1
    assert Watermark.read(state_dir(place / ONLINE) / WATERMARK).views["item"] == LAST
    assert stored(place / ONLINE) == from_nothing(place, LAST, tmp_path)


def dies(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    """`function`, at whose call number `call` the process ends."""
    calls = iter(range(100))

    def dying(*values: object, **named: object) -> object:
        if next(calls) == call:
            raise KeyboardInterrupt
        return function(*values, **named)

    return dying


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [(online_store, "record_written", 1), (quality, "check_online", 0), (refreshing, "write_text", 0)],
)
def test_a_killed_run_is_run_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, call: int
) -> None:
    """Wherever it dies, the same command ends it; one that would go back before it says what to run instead."""
    bring(place, FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies(getattr(module, name), call))
        with pytest.raises(KeyboardInterrupt):
            bring(place, FIRST + DAY)
    if name != "write_text":  # the last of all: the store is done
        with pytest.raises(ParameterError, match=r"(?s)begun.*Run again with --as-of 2026-01-07T12:00:00 or later"):
            bring(place, FIRST + DAY / 2)
    bring(place, FIRST + DAY)
    assert stored(place / ONLINE) == from_nothing(place, FIRST + DAY, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("view", [1, 2, 3])
def test_kill_nine_leaves_nothing_that_another_run_does_not_end(place: Path, tmp_path: Path, view: int) -> None:
    """A real process, killed while it writes a view; the lock is gone with it, and the same command ends it."""
    bring(place, FIRST)
    command = [
        sys.executable,
        "-m",
        "features.refresh",
        "--schema",
        "data/schema.json",
        "--features",
        FEATURES,
        "--online",
        ONLINE,
        "--as-of",
        f"{FIRST + DAY:%Y-%m-%dT%H:%M}",
        "--out",
        OUT,
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = (line for line in process.stdout if line.startswith("Materializing"))
        for _ in range(view):
            next(said)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    bring(place, FIRST + DAY)
    assert stored(place / ONLINE) == from_nothing(place, FIRST + DAY, tmp_path)


def test_a_locked_store_asks_for_later(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another refresh, or another writer: the status says try again, the sentence why; then it goes on."""
    bring(place, FIRST)
    with (state_dir(place / ONLINE) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match="another refresh is at work"):
            bring(place, FIRST + DAY)
    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, timeout=0.1))
    with contextlib.closing(sqlite3.connect(place / ONLINE)) as other:
        other.execute("begin immediate")
        with pytest.raises(StoreUnavailableError, match="another process writes to it"):
            bring(place, FIRST + DAY)
    assert StoreUnavailableError.exit_status == LOCKED
    assert bring(place, FIRST + DAY)["skipped"] is None


def test_a_full_disk_is_told_and_nothing_is_called_done(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for another page: a sentence; watermark and item snapshot stay, and with room it goes on."""
    bring(place, FIRST)
    before, items = Watermark.read(state_dir(place / ONLINE) / WATERMARK), item_snapshot_path(place / ONLINE).read_bytes()

    def without_room(*values: Any, **named: Any) -> Any:
        store = open_store(*values, **named)
        connection = store._get_provider().online_store._get_conn(store.config)
        connection.execute("pragma max_page_count = 1")  # SQLite takes it for the size that the file has
        return store

    with monkeypatch.context() as patch:
        patch.setattr(online_store, "open_store", without_room)
        with pytest.raises(StoreError, match=r"(?s)online.db is full: .* view \w+, found "):
            bring(place, LAST)
    after = Watermark.read(state_dir(place / ONLINE) / WATERMARK)
    assert (after.views, after.begun) == (before.views, LAST)
    assert item_snapshot_path(place / ONLINE).read_bytes() == items
    assert bring(place, LAST)["skipped"] is None


def test_damage_before_the_overlap_is_found_and_mended(place: Path, tmp_path: Path) -> None:
    """The check against the offline store finds a value that the window does not cover; all is written again, once."""
    bring(place, LAST)
    with contextlib.closing(sqlite3.connect(place / ONLINE)) as connection, connection:
        connection.execute("delete from hinet_item where feature_name = 'price'")
    found = bring(place, LAST + DAY * 5)
    assert (found["again"], found["whole"]) == (True, True)
    assert stored(place / ONLINE) == from_nothing(place, LAST + DAY * 5, tmp_path)
    assert json.loads((place / OUT / "check.json").read_text())["passed"]


def test_a_difference_that_stays_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a whole rewrite does not help, it fails with what differs and what to do, and the watermark stays."""
    bring(place, FIRST)
    monkeypatch.setattr(quality, "check_online", functools.partial(spoiled, quality.check_online))
    with pytest.raises(ValidationError, match=r"(?s)item: online value differs.*online.db.written, then run it again"):
        bring(place, FIRST + DAY)
    assert Watermark.read(state_dir(place / ONLINE) / WATERMARK).views == {}


def spoiled(check: Callable[..., Any], *values: Any, **named: Any) -> Any:
    """The check, after somebody else has written to the store."""
    with contextlib.closing(sqlite3.connect(ONLINE)) as connection, connection:
        connection.execute("update hinet_item set value = x'' where feature_name = 'price'")
    return check(*values, **named)


def test_other_columns_are_written_for_all(place: Path) -> None:
    """After a change of the views the watermark of the old ones means nothing."""
    bring(place, FIRST)
    views = place / FEATURES / "views.json"
    views.write_text(views.read_text() + "\n")
    assert bring(place, FIRST)["whole"]
