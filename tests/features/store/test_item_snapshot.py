"""The item snapshot: the items of the online store in one file, in which damage is detected."""

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
from features.store.item_snapshot import item_snapshot_path, read_snapshot
from features.store.snapshot_writer import write_snapshot
from tests.support import tiny_project, world

pytestmark = pytest.mark.integration

SCHEMA = world.schema()


@pytest.fixture
def path(project: Path, tmp_path: Path) -> Path:
    """A copy of the item snapshot of the tiny project, to damage."""
    return Path(shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path))


def views(project: Path) -> tuple:
    """The views of the tiny project."""
    return read_views(project / "data/features/views.json")


def test_the_snapshot_holds_what_the_online_store_holds(project: Path, path: Path, tmp_path: Path) -> None:
    """Every item, every feature, value by value, as Feast reads it; and the timestamp of the store."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    store = open_store(
        SCHEMA, views(project), features=project / "data/features", online=online, registry=tmp_path / "registry.db"
    )
    snapshot = read_snapshot(path, SCHEMA, views(project))
    (view,) = [view for view in views(project) if view.name == "item"]
    rows = snapshot.rows.to_pylist()
    names = [f"item:{column.name}" for column in view.columns]
    online_values = store.get_online_features(
        features=names, entity_rows=[{"item_id": row["item_id"]} for row in rows]
    ).to_dict()
    assert [row["item_id"] for row in rows] == list(range(9))
    for column in view.columns:
        assert [row[column.name] for row in rows] == online_values[column.name]
    assert snapshot.as_of == datetime(2026, 1, 11, 1, tzinfo=UTC)


def test_the_same_features_are_the_same_bytes(project: Path, path: Path, tmp_path: Path) -> None:
    """Written twice from the same features, the file has the same bytes, as a DVC stage requires."""
    as_of = datetime(2026, 1, 11, 1, tzinfo=UTC)
    again = tmp_path / "again.parquet"
    write_snapshot(SCHEMA, views(project), features=project / "data/features", as_of=as_of, path=again)
    assert again.read_bytes() == path.read_bytes()


def test_later_rows_are_left_out(project: Path, tmp_path: Path) -> None:
    """No row is newer than `as_of`, and each item has its newest row up to then."""
    as_of, path = datetime(2026, 1, 8, tzinfo=UTC), tmp_path / "items.parquet"
    write_snapshot(SCHEMA, views(project), features=project / "data/features", as_of=as_of, path=path)
    snapshot = read_snapshot(path, SCHEMA, views(project))
    assert max(snapshot.rows[EVENT_TIMESTAMP].to_pylist()) <= as_of.replace(tzinfo=None)
    assert not check_snapshot(snapshot.rows, SCHEMA, views(project), project / "data/features", 500, as_of=as_of).faults


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(project: Path, path: Path, share: float) -> None:
    """Wherever it was truncated, the message names the file and the command that writes it."""
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
        offset = column.data_page_offset + column.total_compressed_size - 2
        offset -= (column.data_page_offset - column.dictionary_page_offset) if column.has_dictionary_page else 0
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0xFF]) + whole[offset + 1 :])
        with pytest.raises(SnapshotError, match="no whole Parquet file"):
            read_snapshot(path, SCHEMA, views(project))


def test_what_is_of_another_data_set_is_refused(project: Path, path: Path, tmp_path: Path) -> None:
    """No file, a foreign Parquet file, another schema, missing features: each has its message."""
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
