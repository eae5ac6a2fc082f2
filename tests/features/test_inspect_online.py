"""Stage inspect_online: the report of the online store's quality gate, and its exit."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from feast.protos.feast.types.Value_pb2 import Value

from common.errors import ValidationError
from features.inspect_online import inspect_online
from features.store.item_snapshot import item_snapshot_path
from tests.support import tiny_project, world
from tests.support.sqlite_store import write_value

pytestmark = pytest.mark.integration


@pytest.fixture
def online(project: Path, tmp_path: Path) -> Path:
    """A copy of the online store of the tiny project, to damage, with its item snapshot."""
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    return Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))


def test_a_wrong_value_closes_the_quality_gate_and_the_store_is_not_changed(
    project: Path, online: Path, tmp_path: Path
) -> None:
    """It fails with what differs and what to do; the bytes of the store do not change."""
    world.write_params(tmp_path)
    write_value(online, "item", "price", Value(float_val=-1))
    before = hashlib.sha256(online.read_bytes()).digest()
    data, report = project / "data", tmp_path / "i.json"
    match = r"(?s)item: online value differs.*price.*dvc repro --force materialize"
    with contextlib.chdir(tmp_path), pytest.raises(ValidationError, match=match):
        inspect_online(
            schema=data / "schema.json", features=data / "features", online=online, report=report, docs=tmp_path / "i"
        )
    assert not json.loads(report.read_text())["tables"]["item"]["passed"]
    assert "The quality gate is closed" in (tmp_path / "i" / "index.html").read_text()
    assert hashlib.sha256(online.read_bytes()).digest() == before
