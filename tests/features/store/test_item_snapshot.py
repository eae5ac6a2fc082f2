"""The item snapshot: what the online store holds of the items, in one file that notices damage."""

import dataclasses
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from common.errors import SnapshotError
from features.quality.online_store import check_snapshot
from features.schema import EVENT_TIMESTAMP, read_views
from features.store.definitions import open_store
from features.store.item_snapshot import item_snapshot_path, read_snapshot, write_snapshot
from tests.support import tiny_project, world

SCHEMA = world.schema()


@pytest.fixture
def path(project: Path, tmp_path: Path) -> Path:
    """A copy of the snapshot of the tiny project, to damage."""
    return Path(shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path))


def views(project: Path) -> tuple:
    """The views of the tiny project."""
    return read_views(project / "data/features/views.json")


def test_the_snapshot_holds_what_the_online_store_holds(project: Path, path: Path, tmp_path: Path) -> None:
    """Every item, every feature, value by value, as Feast reads it; and the moment of the store."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    store = open_store(
        SCHEMA, views(project), features=project / "data/features", online=online, registry=tmp_path / "registry.db"
    )
    snapshot = read_snapshot(path, SCHEMA, views(project))
    (view,) = [view for view in views(project) if view.name == "item"]
    rows = snapshot.rows.to_pylist()
    wanted = [f"item:{column.name}" for column in view.columns]
    found = store.get_online_features(
        features=wanted, entity_rows=[{"item_id": row["item_id"]} for row in rows]
    ).to_dict()
    assert [row["item_id"] for row in rows] == list(range(9))
    for column in view.columns:
        assert [row[column.name] for row in rows] == found[column.name]
    assert snapshot.as_of == datetime(2026, 1, 11, 1, tzinfo=UTC)


def test_the_same_features_are_the_same_bytes(project: Path, path: Path, tmp_path: Path) -> None:
    """A stage of DVC writes it."""
    moment = datetime(2026, 1, 11, 1, tzinfo=UTC)
    again = tmp_path / "again.parquet"
    write_snapshot(SCHEMA, views(project), features=project / "data/features", as_of=moment, path=again)
    assert again.read_bytes() == path.read_bytes()


def test_the_future_stays_out(project: Path, tmp_path: Path) -> None:
    """As of a moment, no row is newer, and each item has its newest up to then."""
    moment, path = datetime(2026, 1, 8, tzinfo=UTC), tmp_path / "items.parquet"
    write_snapshot(SCHEMA, views(project), features=project / "data/features", as_of=moment, path=path)
    found = read_snapshot(path, SCHEMA, views(project))
    assert max(found.rows[EVENT_TIMESTAMP].to_pylist()) <= moment.replace(tzinfo=None)
    assert not check_snapshot(found.rows, SCHEMA, views(project), project / "data/features", 500, as_of=moment).faults


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_cut_file_is_refused(project: Path, path: Path, share: float) -> None:
    """Wherever it was cut, the message names the file and what makes it anew."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SnapshotError, match=r"items.parquet is no whole Parquet file .*dvc repro materialize"):
        read_snapshot(path, SCHEMA, views(project))


def test_a_changed_byte_is_refused(project: Path, path: Path) -> None:
    """Within the values of any column: the checksum of a page, or its compression, or its length is not right."""
    whole = path.read_bytes()
    ends = pq.ParquetFile(path).metadata.row_group(0)
    columns = (ends.column(number) for number in range(ends.num_columns))
    for column in columns:
        place = column.data_page_offset + column.total_compressed_size - 2
        place -= (column.data_page_offset - column.dictionary_page_offset) if column.has_dictionary_page else 0
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(SnapshotError, match="no whole Parquet file"):
            read_snapshot(path, SCHEMA, views(project))


def test_what_is_of_another_data_set_is_refused(project: Path, path: Path, tmp_path: Path) -> None:
    """No file, a foreign Parquet file, another schema, features that it lacks: each told."""
    known = views(project)
    with pytest.raises(SnapshotError, match="does not exist"):
        read_snapshot(tmp_path / "nowhere", SCHEMA, known)
    with pytest.raises(SnapshotError, match=r"expected hinet\.schema [0-9a-f]{64}, found"):
        read_snapshot(path, world.schema(scenarios=("feed", "search")), known)
    with pytest.raises(SnapshotError, match=r"expected hinet\.rows"):
        read_snapshot(project / "data/features/item.parquet", SCHEMA, known)
    more = dataclasses.replace(known[1].columns[0], name="colour")
    with pytest.raises(SnapshotError, match="expected the features \\['colour'\\]"):
        read_snapshot(path, SCHEMA, (dataclasses.replace(known[1], columns=(more,)),))
