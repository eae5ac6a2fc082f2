"""Hot reload: a new model or snapshot is taken into use as a whole, one model per answer, or not at all."""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ModelError, SnapshotError
from common.paths import ROOT
from features.schema import read_views
from features.store.item_snapshot import item_snapshot_path
from features.store.snapshot_writer import write_snapshot
from serving.ranking.hot_reload import EVERY, Reloader
from serving.ranking.loaded_model import LoadedModel
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project, world
from tests.support.waiting import wait_until

EARLIER, LATER = datetime(2026, 1, 9, 12, tzinfo=UTC), datetime(2026, 1, 11, 1, tzinfo=UTC)
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def other_model(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with other weights."""
    folder, data = tmp_path_factory.mktemp("other") / "hinet", project / "data"
    with contextlib.chdir(project):
        tiny_project.write_random_model(
            folder,
            schema=data / "schema.json",
            views=data / "features/views.json",
            encoder=project / "artifacts/encoder.parquet",
            reference=project / "artifacts/reference.json",
            valid=data / "tensors/valid",
            seed=1,
        )
    return folder


class Files:
    """A link to one of two model folders, and an online store with its item snapshot; each can be replaced."""

    def __init__(self, project: Path, other_model: Path, folder: Path) -> None:
        self.project, self.folder, self.link = project, folder, folder / "champion"
        for name, model in (("a", project / tiny_project.MODEL), ("b", other_model)):
            shutil.copytree(model, folder / name)
        self.online = Path(shutil.copy(project / tiny_project.ONLINE, folder))
        self.use_model("a")
        self.use_snapshot(LATER)

    def use_model(self, name: str) -> None:
        """Replace the link by a rename, as a release does."""
        (self.folder / "new").symlink_to(name)
        (self.folder / "new").replace(self.link)

    def use_snapshot(self, as_of: datetime) -> None:
        """Replace the item snapshot by that of another timestamp, as a refresh does."""
        features = self.project / "data/features"
        views, path = read_views(features / "views.json"), item_snapshot_path(self.online)
        write_snapshot(world.schema(), views, features=features, as_of=as_of, path=path)

    def sources(self, name: str) -> ModelSources:
        """The sources of a ranker on these files; its registry is named `name`."""
        return ModelSources(self.link, self.online, self.folder / f"{name}.db")


@pytest.fixture
def files(project: Path, other_model: Path, tmp_path: Path) -> Files:
    """Model a, and the newest snapshot."""
    return Files(project, other_model, tmp_path)


@pytest.fixture
def reloader(files: Files) -> Iterator[Reloader]:
    """A reloader of a ranker on the files; its thread is not started."""
    settings = tiny_project.with_read_timeout(files.project, reload_seconds=0.02)
    made = Reloader(open_ranker(files.sources("registry"), settings), files.sources("registry"), settings)
    yield made
    made.close()


def requests_for(ranker: Ranker) -> list[Any]:
    """Requests that every model and snapshot can answer."""
    accepted = request_type(ranker.loaded.schema, tiny_project.with_read_timeout(ROOT))
    users = ({"user_id": user, "scenario": scenario} for user in (1, 5) for scenario in ("feed", "search"))
    return [accepted(**user, candidates=candidates) for user in users for candidates in ([3, 1, 7], "all")]


Source = tuple[str, datetime | None]


def source_of(result: RankingResult) -> Source:
    """The model and the snapshot that a result names."""
    return result.model, result.data_date


def order_and_scores(result: RankingResult) -> tuple[Any, ...]:
    """The items of a result, then their scores."""
    return *result.items, *result.scores.tolist()


@pytest.mark.parametrize("turns", [8, pytest.param(20, marks=pytest.mark.slow)])
def test_no_answer_mixes_two_models_or_snapshots(files: Files, reloader: Reloader, turns: int) -> None:
    """While both are replaced many times, each answer of four threads is that of the model and snapshot it names."""
    ranker = reloader.ranker
    requests = requests_for(ranker)
    expected: dict[tuple[int, Source], tuple[Any, ...]] = {}
    pairs = [(model, as_of) for model in "ab" for as_of in (EARLIER, LATER)]
    for model, as_of in pairs:
        files.use_model(model)
        files.use_snapshot(as_of)
        reloader.check()
        results = enumerate(map(ranker.rank, requests))
        expected |= {(n, source_of(result)): order_and_scores(result) for n, result in results}
    assert len(expected) == len(requests) * len(pairs)
    answers: list[tuple[int, RankingResult]] = []
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            answers.extend((n, ranker.rank(request)) for n, request in enumerate(requests))

    threads = [threading.Thread(target=send) for _ in range(4)]
    [thread.start() for thread in threads]
    for turn in range(turns):
        files.use_model("ab"[turn % 2])
        files.use_snapshot((EARLIER, LATER)[turn // 2 % 2])
        assert reloader.check()
    done.set()
    [thread.join() for thread in threads]
    assert all(order_and_scores(r) == pytest.approx(expected[n, source_of(r)], abs=1e-9) for n, r in answers)
    assert {source_of(result) for _, result in answers} == {source for _, source in expected}
    assert all(result.degraded is None for _, result in answers)


def test_a_thread_checks_the_files(files: Files, reloader: Reloader) -> None:
    """After `start` a replaced model and snapshot are taken into use; after `close` no more."""
    first = reloader.ranker.loaded.model.tag
    reloader.start()
    files.use_model("b")
    wait_until(lambda: reloader.ranker.loaded.model.tag != first)
    files.use_snapshot(EARLIER)
    wait_until(lambda: reloader.ranker.loaded.catalogue.as_of == EARLIER)
    assert reloader.failures == 0
    reloader.close()
    files.use_model("a")
    assert reloader.ranker.loaded.model.tag != first


def test_unchanged_files_are_not_loaded_again(reloader: Reloader) -> None:
    """A check of the same files leaves the model in use."""
    loaded = reloader.ranker.loaded
    assert not reloader.check()
    assert reloader.ranker.loaded is loaded


def damage_model(files: Files) -> Callable[[], None]:
    """Use model b with one byte changed; returns its repair."""
    weights = files.folder / "b" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    files.use_model("b")
    return lambda: weights.write_bytes(content) and None


def damage_snapshot(files: Files) -> Callable[[], None]:
    """Truncate the snapshot to its first half; returns its repair."""
    path = item_snapshot_path(files.online)
    os.truncate(path, path.stat().st_size // 2)
    return lambda: files.use_snapshot(EARLIER)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(damage_model, r"weights.safetensors: expected sha256"), (damage_snapshot, "is no whole Parquet file")],
)
def test_damaged_files_are_reported_and_the_model_in_use_keeps_serving(
    files: Files, reloader: Reloader, caplog: pytest.LogCaptureFixture, damage: Callable, message: str
) -> None:
    """They are reported once, not at every check; after their repair they are taken into use."""
    ranker = reloader.ranker
    before, loaded = [order_and_scores(ranker.rank(request)) for request in requests_for(ranker)], ranker.loaded
    repair = damage(files)
    assert not reloader.check()
    assert not reloader.check()
    assert (ranker.loaded is loaded, reloader.failures) == (True, 1)
    assert reloader.error
    assert message in reloader.error
    assert len([record for record in caplog.records if message in record.message]) == 1
    assert [order_and_scores(ranker.rank(request)) for request in requests_for(ranker)] == before
    repair()
    assert reloader.check()
    assert (reloader.error, reloader.reloads) == (None, 1)
    assert ranker.loaded is not loaded


def test_damaged_files_at_the_start_are_an_error(files: Files) -> None:
    """A ranker does not open with a damaged snapshot or model."""
    damage_snapshot(files)
    with pytest.raises(SnapshotError, match=r"online.items.parquet is no whole Parquet file"):
        open_ranker(files.sources("a"), tiny_project.with_read_timeout(files.project))
    files.use_snapshot(LATER)
    damage_model(files)
    with pytest.raises(ModelError, match="expected sha256"):
        open_ranker(files.sources("b"), tiny_project.with_read_timeout(files.project))


def test_a_model_with_another_schema_needs_a_restart(files: Files, reloader: Reloader) -> None:
    """The request type of the service was made from the first schema."""
    loaded = reloader.ranker.loaded
    other = dataclasses.replace(loaded.model, schema=world.schema(scenarios=("feed", "search")))
    reloader.ranker.loaded = dataclasses.replace(loaded, model=other)
    files.use_model("b")
    assert not reloader.check()
    assert reloader.error
    assert "restart the service" in reloader.error


def test_a_new_model_is_warmed_up_by_recent_requests(
    files: Files, reloader: Reloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is in use it answers every 16th of the recent requests, and no observer sees the answers."""
    ranker, replayed, observed = reloader.ranker, [], []

    class Observer:
        def ranked(self, *values: Any) -> None:
            observed.append(values)

    requests = requests_for(ranker)
    for turn in range(2 * EVERY):
        ranker.rank(requests[turn % len(requests)])
    rank_with = Ranker.rank_with
    ranker.observers.append(Observer())

    def recording(self: Ranker, loaded: LoadedModel, request: Any) -> Any:
        replayed.append((loaded is self.loaded, request))
        return rank_with(self, loaded, request)

    monkeypatch.setattr(Ranker, "rank_with", recording)
    files.use_model("b")
    assert reloader.check()
    assert replayed == [(False, requests[0]), (False, requests[0])]
    assert observed == []


def test_a_new_snapshot_reuses_what_did_not_change(files: Files, reloader: Reloader) -> None:
    """The model is not read again, and the feature client keeps the rows that it remembers."""
    before = reloader.ranker.loaded
    files.use_snapshot(EARLIER)
    assert reloader.check()
    after = reloader.ranker.loaded
    assert (after.model is before.model, after.users is before.users) == (True, True)
    assert not np.array_equal(after.catalogue.timestamps, before.catalogue.timestamps)


def test_a_replaced_store_is_opened_with_its_snapshot(files: Files, reloader: Reloader) -> None:
    """While the new file is filled, the deleted one is still read; the snapshot is written last."""
    users, requests = reloader.ranker.loaded.users, requests_for(reloader.ranker)
    before = [order_and_scores(reloader.ranker.rank(request)) for request in requests]
    files.online.unlink()
    sqlite3.connect(files.online).close()
    assert not reloader.check()
    assert [order_and_scores(reloader.ranker.rank(request)) for request in requests] == before
    Path(shutil.copy(files.project / tiny_project.ONLINE, files.folder / "filled.db")).replace(files.online)
    files.use_snapshot(EARLIER)
    assert reloader.check()
    assert reloader.ranker.loaded.users is not users
    assert all(reloader.ranker.rank(request).degraded is None for request in requests)
