"""Another model or snapshot while requests are answered: taken whole, one answer from one state, or left alone."""

import contextlib
import dataclasses
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.paths import ROOT
from features.schema import read_views
from features.store.item_snapshot import item_snapshot_path, write_snapshot
from serving.ranking.hot_reload import Reloader
from serving.ranking.loaded_model import ModelSources, LoadedModel
from serving.ranking.ranker import EVERY, Ranker, open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from tests.support import tiny_project, world

EARLIER, LATER = datetime(2026, 1, 9, 12, tzinfo=UTC), datetime(2026, 1, 11, 1, tzinfo=UTC)
Wait = Callable[[Callable[[], bool]], None]


@pytest.fixture(scope="module")
def second(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of other weights."""
    folder, data = tmp_path_factory.mktemp("second") / "hinet", project / "data"
    with contextlib.chdir(project):
        tiny_project.write_random_model(
            folder,
            schema=data / "schema.json",
            views=data / "features/views.json",
            encoder=project / "artifacts/encoder.json",
            reference=project / "artifacts/reference.json",
            valid=data / "tensors/valid",
            seed=1,
        )
    return folder


class Place:
    """A link to one of two models, and an online store with its item snapshot, to be exchanged."""

    def __init__(self, project: Path, second: Path, folder: Path) -> None:
        self.project, self.folder, self.link = project, folder, folder / "champion"
        for name, model in (("a", project / tiny_project.MODEL), ("b", second)):
            shutil.copytree(model, folder / name)
        self.online = Path(shutil.copy(project / tiny_project.ONLINE, folder))
        self.point("a")
        self.snapshot(LATER)

    def point(self, name: str) -> None:
        """Exchange the link by a rename, as a release does."""
        (self.folder / "new").symlink_to(name)
        (self.folder / "new").replace(self.link)

    def snapshot(self, moment: datetime) -> None:
        """Replace the item snapshot by that of a moment, as a refresh does."""
        features = self.project / "data/features"
        views, path = read_views(features / "views.json"), item_snapshot_path(self.online)
        write_snapshot(world.schema(), views, features=features, as_of=moment, path=path)

    def sources(self, name: str) -> ModelSources:
        """What a ranker of this place reads; its registry is named `name`."""
        return ModelSources(self.link, self.online, self.folder / f"{name}.db")


@pytest.fixture
def place(project: Path, second: Path, tmp_path: Path) -> Place:
    """Model a, and the newest snapshot."""
    return Place(project, second, tmp_path)


@pytest.fixture
def reloader(place: Place) -> Iterator[Reloader]:
    """A reloader, not started, of a ranker of the place."""
    yield from opened(place, reload_seconds=0.02)


def opened(place: Place, **changes: Any) -> Iterator[Reloader]:
    """A reloader of a ranker of a place, closed at the end."""
    settings = tiny_project.with_read_timeout(place.project, **changes)
    made = Reloader(open_ranker(place.sources("registry"), settings), place.sources("registry"), settings)
    yield made
    made.close()


def requests(ranker: Ranker) -> list[Any]:
    """Some requests that are answered in every state."""
    accepted = request_type(ranker.state.schema, tiny_project.with_read_timeout(ROOT))
    users = ({"user_id": user, "scenario": scenario} for user in (1, 5) for scenario in ("feed", "search"))
    return [accepted(**user, candidates=candidates) for user in users for candidates in ([3, 1, 7], "all")]


Key = tuple[str, datetime | None]


def key(ranked: RankingResult) -> Key:
    """Which model and which snapshot an answer names."""
    return ranked.model, ranked.data_date


def said(ranked: RankingResult) -> tuple[Any, ...]:
    """The order and the scores of an answer."""
    return *ranked.items, *ranked.scores.tolist()


def test_no_answer_mixes_two_models_or_snapshots(place: Place, reloader: Reloader) -> None:
    """Four threads ask while model and snapshot change twenty times: each answer is that of the state that it names."""
    ranker = reloader.ranker
    asked = requests(ranker)
    expected: dict[tuple[int, Key], tuple[Any, ...]] = {}
    states = [(model, moment) for model in "ab" for moment in (EARLIER, LATER)]
    for model, moment in states:
        place.point(model)
        place.snapshot(moment)
        reloader.look()
        expected |= {(n, key(found)): said(found) for n, found in enumerate(map(ranker.rank, asked))}
    assert len(expected) == len(asked) * len(states)
    answers: list[tuple[int, RankingResult]] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answers.extend((n, ranker.rank(request)) for n, request in enumerate(asked))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    [thread.start() for thread in threads]
    for turn in range(20):
        place.point("ab"[turn % 2])
        place.snapshot((EARLIER, LATER)[turn // 2 % 2])
        assert reloader.look()
    done.set()
    [thread.join() for thread in threads]
    assert all(said(found) == pytest.approx(expected[n, key(found)], abs=1e-9) for n, found in answers)
    assert {key(found) for _, found in answers} == {key for _, key in expected}
    assert all(found.degraded is None for _, found in answers)


def test_a_thread_looks_by_itself(place: Place, reloader: Reloader) -> None:
    """What is exchanged is in use a moment later; closed, nobody looks any more."""
    first = reloader.ranker.state.model.tag
    reloader.start()
    place.point("b")
    wait(lambda: reloader.ranker.state.model.tag != first)
    place.snapshot(EARLIER)
    wait(lambda: reloader.ranker.state.catalogue.moment == EARLIER)
    assert reloader.failures == 0
    reloader.close()
    place.point("a")
    assert reloader.ranker.state.model.tag != first


def wait(until: Callable[[], bool]) -> None:
    """Until something is so."""
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nothing_is_opened_where_nothing_changed(reloader: Reloader) -> None:
    """The same files, the same state."""
    state = reloader.ranker.state
    assert not reloader.look()
    assert reloader.ranker.state is state


def damage_model(place: Place) -> Callable[[], None]:
    """Point at model b with one byte changed; returns how it is mended."""
    weights = place.folder / "b" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    place.point("b")
    return lambda: weights.write_bytes(whole) and None


def damage_snapshot(place: Place) -> Callable[[], None]:
    """Cut the snapshot in half; returns how it is mended."""
    path = item_snapshot_path(place.online)
    os.truncate(path, path.stat().st_size // 2)
    return lambda: place.snapshot(EARLIER)


@pytest.mark.parametrize(
    ("damage", "told"),
    [(damage_model, r"weights.safetensors: expected sha256"), (damage_snapshot, "is no whole Parquet file")],
)
def test_what_is_damaged_is_told_and_the_old_one_serves_on(
    place: Place, reloader: Reloader, caplog: pytest.LogCaptureFixture, damage: Callable, told: str
) -> None:
    """Told once, not with every look; mended, it is taken into use."""
    ranker = reloader.ranker
    before, state = [said(ranker.rank(request)) for request in requests(ranker)], ranker.state
    mend = damage(place)
    assert not reloader.look()
    assert not reloader.look()
    assert (ranker.state is state, reloader.failures) == (True, 1)
    assert reloader.fault
    assert told in reloader.fault
    assert len([record for record in caplog.records if told in record.message]) == 1
    assert [said(ranker.rank(request)) for request in requests(ranker)] == before
    mend()
    assert reloader.look()
    assert (reloader.fault, reloader.reloads) == (None, 1)
    assert ranker.state is not state


def test_at_the_start_damage_is_an_error_with_a_name(place: Place) -> None:
    """Nothing is served from it."""
    from common.errors import ModelError, SnapshotError

    damage_snapshot(place)
    with pytest.raises(SnapshotError, match=r"online.items.parquet is no whole Parquet file"):
        open_ranker(place.sources("a"), tiny_project.with_read_timeout(place.project))
    place.snapshot(LATER)
    damage_model(place)
    with pytest.raises(ModelError, match="expected sha256"):
        open_ranker(place.sources("b"), tiny_project.with_read_timeout(place.project))


def test_a_model_of_another_schema_asks_for_a_restart(place: Place, reloader: Reloader) -> None:
    """What requests are accepted was made from the first schema."""
    state = reloader.ranker.state
    other = dataclasses.replace(state.model, schema=world.schema(scenarios=("feed", "search")))
    reloader.ranker.state = dataclasses.replace(state, model=other)
    place.point("b")
    assert not reloader.look()
    assert reloader.fault
    assert "restart the service" in reloader.fault


def test_a_new_state_is_warmed_by_requests_of_late(
    place: Place, reloader: Reloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is in use it answers some that were answered lately; no log sees them."""
    ranker, replayed = reloader.ranker, []
    asked = requests(ranker)
    for turn in range(2 * EVERY):
        ranker.rank(asked[turn % len(asked)])
    answer = Ranker.answer

    def watched(self: Ranker, state: LoadedModel, request: Any) -> Any:
        replayed.append((state is self.state, request))
        return answer(self, state, request)

    monkeypatch.setattr(Ranker, "answer", watched)
    place.point("b")
    assert reloader.look()
    assert replayed == [(False, asked[0]), (False, asked[0])]


def test_a_new_snapshot_keeps_what_did_not_change(place: Place, reloader: Reloader) -> None:
    """The model is not read again, and the way to the users' features stays with what it remembers."""
    before = reloader.ranker.state
    place.snapshot(EARLIER)
    assert reloader.look()
    after = reloader.ranker.state
    assert (after.model is before.model, after.users is before.users) == (True, True)
    assert not np.array_equal(after.catalogue.moments, before.catalogue.moments)


def test_a_store_that_is_made_anew_is_opened_with_its_snapshot(place: Place, reloader: Reloader) -> None:
    """While the new file is filled the old one, which is gone by name, is read on; the snapshot is written last."""
    users, asked = reloader.ranker.state.users, requests(reloader.ranker)
    whole = [said(reloader.ranker.rank(request)) for request in asked]
    place.online.unlink()
    sqlite3.connect(place.online).close()
    assert not reloader.look()
    assert [said(reloader.ranker.rank(request)) for request in asked] == whole
    Path(shutil.copy(place.project / tiny_project.ONLINE, place.folder / "filled.db")).replace(place.online)
    place.snapshot(EARLIER)
    assert reloader.look()
    assert reloader.ranker.state.users is not users
    assert all(reloader.ranker.rank(request).degraded is None for request in asked)
