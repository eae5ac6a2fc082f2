"""Which online store fits a model: the one in use, else that of the model's release; and hot reload around a change."""

import dataclasses
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.errors import SnapshotError
from common.paths import ROOT
from features.schema import DType, Schema, View, read_views
from features.store.item_snapshot import item_snapshot_path
from features.store.snapshot_writer import write_snapshot
from models.model_folder import read_model
from serving.ranking import hot_reload, loaded_model
from serving.ranking.hot_reload import Reloader
from serving.ranking.model_sources import RELEASED_STORE, ModelSources, fitting_sources, released_store
from serving.ranking.ranker import open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project, world

AS_OF = datetime(2026, 1, 11, 1, tzinfo=UTC)
OTHER = world.schema(scenarios=("feed", "search"))
pytestmark = pytest.mark.integration


class Releases:
    """A release `a` with a store of its own, a link to it, and an online store in use."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.project, self.folder, self.link = project, folder, folder / "champion"
        self.online = folder / "in-use" / "online.db"
        self.add("a")
        self.follow("a")
        self.fill(world.schema(), self.views)

    @property
    def views(self) -> tuple[View, ...]:
        """The views of the tiny project."""
        return read_views(self.project / "data/features/views.json")

    def add(self, tag: str) -> None:
        """Make the folder of a release."""
        shutil.copytree(self.project / tiny_project.MODEL, self.folder / tag / "model")
        self._copy_store(self.folder / tag / RELEASED_STORE)

    def follow(self, tag: str) -> None:
        """Let the link lead to a release, as promote does."""
        (self.folder / "new").symlink_to(tag)
        (self.folder / "new").replace(self.link)

    def fill(self, schema: Schema, views: tuple[View, ...]) -> None:
        """Let the store in use be that of another schema or of other views."""
        self._copy_store(self.online)
        features, path = self.project / "data/features", item_snapshot_path(self.online)
        write_snapshot(schema, views, features=features, as_of=AS_OF, path=path)

    def sources(self) -> ModelSources:
        """The sources of a service that follows the link."""
        return ModelSources(self.link / "model", self.online, self.folder / "registry.db")

    def _copy_store(self, online: Path) -> None:
        online.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.project / tiny_project.ONLINE, item_snapshot_path(self.project / tiny_project.ONLINE)):
            shutil.copy(path, online.parent)


@pytest.fixture
def releases(project: Path, tmp_path: Path) -> Releases:
    """A release, which is the champion, and a store in use that fits it."""
    return Releases(project, tmp_path)


@pytest.fixture
def reloader(releases: Releases) -> Iterator[Reloader]:
    """A running service's reloader; its thread is not started."""
    settings = tiny_project.with_read_timeout(releases.project)
    made = Reloader(open_ranker(releases.sources(), settings), releases.sources(), settings)
    yield made
    made.close()


def answers(reloader: Reloader) -> list[Any]:
    """The answers to two requests, without their times."""
    ranker = reloader.ranker
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(ROOT))
    results: list[RankingResult] = [
        ranker.rank(accepted(user_id=user, scenario="feed", candidates=[3, 1, 7])) for user in (1, 5)
    ]
    return [(result.items, result.scores.tolist(), result.degraded) for result in results]


def fewer(views: tuple[View, ...]) -> tuple[View, ...]:
    """The views without the last column of each, such as after another window was chosen."""
    return tuple(dataclasses.replace(view, columns=view.columns[:-1]) for view in views)


def of_other_type(views: tuple[View, ...]) -> tuple[View, ...]:
    """The views with another type of the user's first column."""
    (user,) = [view for view in views if view.name == "user"]
    first = dataclasses.replace(user.columns[0], dtype=DType.INT64)
    changed = dataclasses.replace(user, columns=(first, *user.columns[1:]))
    return tuple(changed if view is user else view for view in views)


def remove(path: Path) -> None:
    """Remove the folder of the store in use."""
    shutil.rmtree(path.parent)


CHANGES = {
    "removed": lambda releases: remove(releases.online),
    "store removed": lambda releases: releases.online.unlink(),
    "another schema": lambda releases: releases.fill(OTHER, releases.views),
    "fewer columns": lambda releases: releases.fill(world.schema(), fewer(releases.views)),
    "another type": lambda releases: releases.fill(world.schema(), of_other_type(releases.views)),
    "damaged": lambda releases: item_snapshot_path(releases.online).write_bytes(b"PAR1"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_does_not_fit_is_replaced_by_that_of_the_release(releases: Releases, change: str) -> None:
    """Whatever became of the one in use; Redis is left, too; without a store of the release it is an error."""
    model = read_model(releases.folder / "a" / "model")
    sources = dataclasses.replace(releases.sources(), model=releases.folder / "a" / "model")
    assert fitting_sources(sources, model.schema, model.views) == (sources, None)
    CHANGES[change](releases)
    fitting, reason = fitting_sources(sources, model.schema, model.views)
    assert reason is not None
    assert (fitting.online, fitting.redis) == (releases.folder / "a" / RELEASED_STORE, None)
    if change != "store removed":  # with Redis there is no such file
        redis = dataclasses.replace(sources, redis="nowhere:1")
        assert fitting_sources(redis, model.schema, model.views)[0] == fitting
    item_snapshot_path(fitting.online).unlink()
    assert released_store(sources.model) is None
    with pytest.raises(SnapshotError, match=r"in-use/online"):
        fitting_sources(sources, model.schema, model.views)


@pytest.mark.parametrize("change", CHANGES)
def test_a_service_starts_and_answers_whatever_the_store_in_use_has_become(
    releases: Releases, reloader: Reloader, change: str
) -> None:
    """With the answers of the store of its release, which here has the same features; nothing is degraded."""
    expected = answers(reloader)
    CHANGES[change](releases)
    settings = tiny_project.with_read_timeout(releases.project)
    again = Reloader(open_ranker(releases.sources(), settings), releases.sources(), settings)
    assert answers(again) == expected
    assert all(degraded is None for *_, degraded in expected)
    again.close()


def test_a_running_service_keeps_what_it_has_in_memory_while_its_store_is_replaced(
    releases: Releases, reloader: Reloader
) -> None:
    """`dvc repro` removes the snapshot first; the features of the release would be older."""
    loaded = reloader.ranker.loaded
    item_snapshot_path(releases.online).unlink()
    assert not reloader.check()
    assert reloader.ranker.loaded is loaded
    releases.fill(world.schema(), releases.views)
    assert reloader.check()
    assert reloader.ranker.loaded.sources.online == releases.online


def test_after_a_release_on_another_schema_a_running_service_reads_its_own_store(
    releases: Releases, reloader: Reloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store in use may be filled anew under it: its answers stay; back at its release it reads the one in use."""
    expected, read = answers(reloader), loaded_model.read_model
    releases.add("b")

    def of_other_schema(folder: Path) -> Any:
        model = read(folder)
        return dataclasses.replace(model, schema=OTHER) if folder.parent.name == "b" else model

    (releases.folder / "b" / "model" / "more").touch()  # other files than those of a
    monkeypatch.setattr(loaded_model, "read_model", of_other_schema)
    releases.follow("b")
    assert not reloader.check()
    assert "restart the service" in str(reloader.error)
    assert reloader.ranker.loaded.sources.online == releases.folder / "a" / RELEASED_STORE
    remove(releases.online)
    assert answers(reloader) == expected
    releases.fill(world.schema(), releases.views)
    releases.follow("a")
    assert reloader.check()
    assert reloader.ranker.loaded.sources.online == releases.online
    assert hot_reload.released_store(releases.folder / "nowhere" / "model") is None
