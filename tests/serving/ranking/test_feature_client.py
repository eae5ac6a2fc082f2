"""The feature client: equal answers from SQLite and Redis, and bounded, flagged answers for every fault of a store."""

import contextlib
import functools
import shutil
import signal
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.store.item_snapshot import item_snapshot_path
from features.store.online_store import state_dir
from serving.ranking.model_sources import ModelSources
from serving.ranking.ranker import Ranker
from serving.ranking.scorer import as_probabilities, forward
from tests.support import tiny_project, world
from tests.support.rankers import UNKNOWN_USER, USERS, rank, ranker_on
from tests.support.redis_process import RedisProcess, filled_folder, needs_redis, refresh_redis
from tests.support.sqlite_lock import locked_by_another_process
from tests.support.waiting import wait_until

ITEM_COLUMNS = {column.name for column in world.schema().items} | {
    f"item_{name}_{window}" for name in ("impressions", "click_rate", "order_rate") for window in ("7d", "all")
}


BUSY_SECONDS = 5.0  # that sqlite3 waits for a lock by default


pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_data_docs")]


@pytest.fixture(scope="module")
def filled(project: Path, redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the item snapshot of the Redis, which holds the features of the tiny project."""
    return filled_folder(project, tmp_path_factory.mktemp("filled"), redis_server.address)


@pytest.fixture
def on_redis(project: Path, redis_server: RedisProcess, filled: Path, tmp_path: Path) -> Ranker:
    """A ranker whose online store is Redis, with a read timeout of half a second."""
    registry = tmp_path / "registry.db"
    sources = ModelSources(project / tiny_project.MODEL, filled / "online.db", registry, redis_server.address)
    return ranker_on(project, sources, timeout_ms=500.0)


@pytest.fixture
def online(project: Path, tmp_path: Path) -> Path:
    """A copy of the SQLite store of the tiny project, with its item snapshot."""
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    return Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))


def on_sqlite(project: Path, online: Path, **store: Any) -> Ranker:
    """A ranker whose online store is the SQLite file `online`."""
    return ranker_on(project, ModelSources(project / tiny_project.MODEL, online, online.parent / "r.db"), **store)


def wait_until_recovered(ranker: Ranker, user: int = 1) -> None:
    """Wait until answers are not degraded any more, without a restart."""
    wait_until(lambda: rank(ranker, user).degraded is None)


@needs_redis
def test_answers_from_both_stores_equal_offline_evaluation(
    project: Path, on_redis: Ranker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """For every user in every scenario: the network's forward of rows read by Feast, to 1e-6, from either store."""
    sqlite = tiny_project.ranker(project, tmp_path_factory.mktemp("sqlite") / "registry.db")
    for user in USERS:
        for scenario in sqlite.loaded.schema.scenarios:
            one, other = rank(sqlite, user, scenario), rank(on_redis, user, scenario)
            assert (one.degraded, other.degraded) == (None, None)
            assert one.items == other.items
            expected = dict(zip(range(9), evaluated(sqlite, user, scenario), strict=True))
            for result in (one, other):
                scores = np.array(list(result.probabilities.values())).T
                np.testing.assert_allclose(scores, [expected[item] for item in result.items], rtol=0, atol=1e-6)


@needs_redis
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_user_row_equals_what_feast_reads(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, store: str
) -> None:
    """Values and timestamps of every view, of every user in every scenario, equal those of get_online_features."""
    redis = store == "redis"
    ranker = request.getfixturevalue("on_redis") if redis else tiny_project.ranker(project, tmp_path / "registry.db")
    users, schema = ranker.loaded.users, ranker.loaded.schema
    columns = {table.view.name: table.columns for table in users.tables}
    features = [f"{view}:{name}" for view, names in columns.items() for name in names]
    for user in USERS:
        for scenario in schema.scenarios:
            entity = {"user_id": user, "scenario": scenario}
            response = users.store.get_online_features(features=features, entity_rows=[entity])
            expected = {name: value for name, (value,) in response.to_dict(include_event_timestamps=True).items()}
            row, degraded = users.row(entity)
            assert degraded is None
            for view, names in columns.items():
                assert row.timestamps.get(view, 0) == expected[f"{next(iter(names))}__ts"]
                assert {name: row.values.get(name) for name in names} == {name: expected[name] for name in names}


def evaluated(ranker: Ranker, user: int, scenario: str) -> np.ndarray:
    """Probabilities of items 0 to 8 by rows read by Feast, the Encoder, and the network's forward."""
    loaded = ranker.loaded
    features = [f"{view.name}:{column.name}" for view in loaded.model.views for column in view.columns]
    entities = [{"user_id": user, "scenario": scenario, "item_id": item} for item in range(9)]
    columns = loaded.users.store.get_online_features(features=features, entity_rows=entities).to_dict()
    of_items = {name: columns[name] for name in columns if name in ITEM_COLUMNS}
    values = {name: column[0] for name, column in columns.items() if name not in ITEM_COLUMNS}
    item_rows = loaded.item_rows(range(9), np.arange(9), of_items)
    rows = loaded.encoder_rows({**values, "user_id": user, "scenario": scenario}, item_rows)
    logits = forward(loaded.model, loaded.model.encoder.encode(rows))
    return as_probabilities(logits, [task.outputs for task in loaded.schema.tasks])


@needs_redis
def test_a_frozen_redis_costs_two_timeouts_and_then_nothing(redis_server: RedisProcess, on_redis: Ranker) -> None:
    """Meanwhile answers are flagged and use remembered rows; afterwards they are complete again."""
    complete = rank(on_redis)
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        results = [rank(on_redis) for _ in range(20)]
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert all("online store: no answer within 500 ms" in (result.degraded or "") for result in results)
    assert min(result.seconds["features"] for result in results[2:]) < 0.005
    assert max(result.seconds["features"] for result in results[:2]) < 2
    assert all(result.items == complete.items for result in results)  # remembered
    wait_until_recovered(on_redis)
    np.testing.assert_array_equal(rank(on_redis).scores, complete.scores)


@needs_redis
def test_a_slow_redis_is_not_waited_for(redis_server: RedisProcess, on_redis: Ranker) -> None:
    """Beyond the read timeout a user who is not remembered is served without features."""
    rank(on_redis)
    redis_server.client.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    result = rank(on_redis, user=2)
    assert result.degraded == "online store: no answer within 500 ms; the user's features are unknown"
    assert result.unknown_user is False  # the model knows the id
    wait_until_recovered(on_redis, user=2)
    assert rank(on_redis, user=2).items != [] != result.items


@needs_redis
def test_answers_recover_when_a_killed_redis_is_filled_again(project: Path, tmp_path: Path) -> None:
    """They are flagged while it is down, and while it is up but empty; then they are complete without a restart."""
    server = RedisProcess(tmp_path)
    try:
        refresh_redis(project, tmp_path, server.address)
        sources = ModelSources(project / tiny_project.MODEL, tmp_path / "online.db", tmp_path / "r.db", server.address)
        ranker = ranker_on(project, sources, timeout_ms=500.0, remembered_users=0)
        complete = rank(ranker)
        server.stop()
        results = [rank(ranker) for _ in range(10)]
        assert all(result.degraded and "features are unknown" in result.degraded for result in results)
        assert min(result.seconds["features"] for result in results[2:]) < 0.005
        server.start()
        wait_until(lambda: "was it emptied?" in str(rank(ranker).degraded))
        assert rank(ranker, user=UNKNOWN_USER).degraded is None  # the store never had a row of this user
        shutil.rmtree(state_dir(tmp_path / "online.db"))
        refresh_redis(project, tmp_path, server.address)
        wait_until_recovered(ranker)
        np.testing.assert_array_equal(rank(ranker).scores, complete.scores)
    finally:
        server.stop()


def test_a_locked_sqlite_file_is_not_waited_for(project: Path, online: Path) -> None:
    """While a writer holds an exclusive lock, answers are flagged; afterwards they are complete again."""
    ranker = on_sqlite(project, online, timeout_ms=200.0)
    complete = rank(ranker)
    with contextlib.closing(functools.partial(sqlite3.connect, isolation_level=None)(online)) as writer:
        writer.execute("begin exclusive")
        results = [rank(ranker, user) for user in (1, 2, 1, 2)]
        writer.execute("rollback")
    assert [result.degraded is not None for result in results] == [True] * 4
    assert "those of the last request" in str(results[0].degraded)
    assert "unknown" in str(results[1].degraded)
    assert "2 times in a row" in str(results[3].degraded)
    wait_until_recovered(ranker)
    np.testing.assert_array_equal(rank(ranker).scores, complete.scores)


def test_a_service_starts_while_the_sqlite_file_is_locked(project: Path, online: Path) -> None:
    """It opens at once and answers flagged; when the process with the lock ends, its answers are complete."""
    with locked_by_another_process(online) as holder:
        began = time.perf_counter()
        ranker = on_sqlite(project, online, timeout_ms=200.0)
        assert time.perf_counter() - began < BUSY_SECONDS, "it waited for the file"
        results = [rank(ranker, user) for user in (1, 2, 3)]
        assert all("the user's features are unknown" in str(result.degraded) for result in results)
        assert all(result.items for result in results)
        holder.kill()
        holder.wait()
        wait_until_recovered(ranker)
    unlocked = tiny_project.ranker(project, online.parent / "other.db")
    np.testing.assert_array_equal(rank(ranker).scores, rank(unlocked).scores)


def test_a_locked_sqlite_file_does_not_stop_the_process(project: Path, online: Path) -> None:
    """Concurrent readers of the connection wait no longer than a request, and other threads go on meanwhile."""
    users = on_sqlite(project, online, timeout_ms=100.0).loaded.users
    ticks = [time.perf_counter()]
    with locked_by_another_process(online) as holder, ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(users._read, (1, "search")) for _ in range(8)]
        while not all(read.done() for read in reads):
            time.sleep(0.01)
            ticks.append(time.perf_counter())
        holder.kill()
    assert all("database is locked" in str(read.exception()) for read in reads)
    assert ticks[-1] - ticks[0] < BUSY_SECONDS
    assert np.diff(ticks).max() < BUSY_SECONDS / 4


def test_the_views_of_a_sqlite_read_are_of_one_state(
    project: Path, online: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that comes between two views of a read waits until the read is over; the next read sees all of it."""
    users = on_sqlite(project, online).loaded.users
    before, read, views = users._read((1, "search")).timestamps, users._online.online_read, []

    def move() -> None:
        """Move every row a day on, in one transaction."""
        with contextlib.closing(sqlite3.connect(online, timeout=0)) as writer, writer:
            for (table,) in writer.execute("select name from sqlite_master where type = 'table'").fetchall():
                writer.execute(f'update "{table}" set event_ts = event_ts + 86400')

    def read_and_move(*arguments: Any) -> Any:
        views.append(arguments[1].name)
        rows = read(*arguments)
        with contextlib.suppress(sqlite3.OperationalError):
            move()
        return rows

    monkeypatch.setattr(users._online, "online_read", read_and_move)
    assert users._read((1, "search")).timestamps == before
    assert len(views) == len(before) == 2
    monkeypatch.undo()
    move()
    after = users._read((1, "search")).timestamps
    assert all(after[view] - timestamp == 86400 for view, timestamp in before.items())


def test_the_rows_of_the_last_users_are_remembered(project: Path, tmp_path: Path) -> None:
    """As many as the parameter allows, the least recent one is dropped."""
    ranker = tiny_project.ranker(project, tmp_path / "r.db", store={"remembered_users": 2})
    for user in (1, 2, 1, 3):
        rank(ranker, user)
    assert [keys[0] for keys in ranker.loaded.users._remembered] == [1, 3]


def test_users_whom_nobody_knows_are_not_remembered(project: Path, online: Path) -> None:
    """A caller can make up any number of ids: only users of whom the store holds something are kept."""
    ranker = on_sqlite(project, online)
    for user in [*range(10_000, 10_050), 1]:
        rank(ranker, user)
    assert [keys[0] for keys in ranker.loaded.users._remembered] == [1]
