"""The variants of the soak benchmark: two models and two snapshots that are exchanged by renames."""

from pathlib import Path

import pytest

from benchmarks.serving.variants import Variants
from features.store.item_snapshot import item_snapshot_path
from models.model_folder import read_model
from tests.support import tiny_project

pytestmark = pytest.mark.integration


def test_variants_are_exchanged_by_renames(project: Path, tmp_path: Path) -> None:
    """The pairs have different tags and bytes behind the same paths; a file that is in use already is not replaced."""
    variants = Variants(project / tiny_project.MODEL, project / tiny_project.ONLINE, tmp_path)
    tags, snapshots = [], []
    for pair in (0, 1):
        variants.use(pair, pair)
        tags.append(read_model(variants.model.resolve()).tag)
        snapshots.append(item_snapshot_path(variants.online).read_bytes())
    assert tags[0] != tags[1]
    assert snapshots[0] != snapshots[1]
    before = item_snapshot_path(variants.online).stat().st_ino
    variants.use(0, 1)
    assert item_snapshot_path(variants.online).stat().st_ino == before
    assert read_model(variants.model.resolve()).tag == tags[0]
