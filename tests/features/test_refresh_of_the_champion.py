"""A refresh of the store that the champion reads: it stays the champion's until its features are made no more."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from features.refresh import refresh
from features.schema import read_views, to_json
from tests.support import tiny_project, world
from tests.support.refreshed_store import DAY, FEATURES, FIRST, ONLINE, OUT, copy_offline_store, stored

pytestmark = pytest.mark.integration
CHAMPION = Path("releases/champion/model")


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The offline store with a champion trained on it, and an online store that it reads; the current folder."""
    copy_offline_store(project, tmp_path)
    monkeypatch.chdir(tmp_path)
    follow("a", project)
    assert update(0)["skipped"] is None
    return tmp_path


def follow(tag: str, project: Path) -> None:
    """Release the model of the tiny project as `tag`."""
    shutil.copytree(project / tiny_project.MODEL, CHAMPION.parents[1] / tag / "model")
    CHAMPION.parent.unlink(missing_ok=True)
    CHAMPION.parent.symlink_to(tag)


def update(days: int) -> dict[str, Any]:
    """Refresh the store up to some days after the first; returns the report."""
    refresh(
        schema=Path("data/schema.json"),
        features=FEATURES,
        online=ONLINE,
        as_of=FIRST + days * DAY,
        out=OUT,
        champion=CHAMPION,
    )
    report: dict[str, Any] = json.loads((OUT / "refresh.json").read_text())
    return report


def declare(scenarios: tuple[str, ...]) -> None:
    """Let the tree declare another schema."""
    Path("data/schema.json").write_text(to_json(world.schema(scenarios=scenarios)))


def test_while_the_features_are_those_of_the_champion_its_store_is_refreshed(folder: Path) -> None:
    """Day after day."""
    before = stored(ONLINE)
    assert update(1)["skipped"] is None
    assert stored(ONLINE) != before


def test_after_a_change_of_the_schema_nothing_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence says so, and what to do; neither a value nor the snapshot nor the watermark changes."""
    declare(("feed", "search"))
    before = {path: path.read_bytes() for path in ONLINE.parent.rglob("*") if path.is_file()}
    report = update(1)
    assert report["of_champion"]
    assert "declares another schema than that of the champion a, which reads online/online.db" in report["skipped"]
    assert "release a model of the new features (`make release`)" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in ONLINE.parent.rglob("*") if path.is_file()}
    assert after == before


def test_after_a_change_of_the_views_nothing_is_written(folder: Path) -> None:
    """Other windows: the columns that are no longer made are named."""
    views = read_views(FEATURES / "views.json")
    gone = views[0].columns[-1].name
    document = json.loads(to_json(views))
    document[0]["columns"].pop()
    (FEATURES / "views.json").write_text(json.dumps(document))
    assert f"the features ['{gone}'] are no longer made" in update(1)["skipped"]


def test_a_new_champion_gets_the_store(folder: Path, project: Path) -> None:
    """Of the schema that the tree declares: the store becomes that of its features."""
    declare(("feed", "search", "channel"))
    follow("b", project)
    document = json.loads((CHAMPION / "model.json").read_text())
    declare(("search", "feed", "channel"))
    other = world.schema(scenarios=("search", "feed", "channel")).fingerprint()
    (CHAMPION / "model.json").write_text(json.dumps(document | {"schema": other}))
    assert update(1)["skipped"] is None


@pytest.mark.parametrize("what", ["no champion", "no store"])
def test_without_a_champion_or_without_a_store_there_is_nothing_to_keep(folder: Path, what: str) -> None:
    """A store is made or made anew of whatever schema."""
    declare(("feed", "search"))
    os.rename(CHAMPION.parents[1], "elsewhere") if what == "no champion" else shutil.rmtree(ONLINE.parent)  # noqa: PTH104
    assert update(1)["skipped"] is None
