"""The stores behind the service: the same answers from SQLite and from a real Redis, and what becomes of each fault."""

import contextlib
import functools
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import redis

from common.errors import StoreError
from common.exit_status import LOCKED
from common.paths import ROOT
from features.quality import gate
from features.refresh import refresh
from features.store.definitions import REDIS
from features.store.incremental import Watermark
from features.store.item_snapshot import item_snapshot_path
from features.store.online_store import WATERMARK, StoreUnavailableError, state_dir
from serving.ranking.loaded_model import ModelSources
from serving.ranking.ranker import Ranker, open_ranker
from serving.ranking.request import request_type
from serving.ranking.result import RankingResult
from serving.ranking.scorer import as_probabilities, forward
from tests.support import tiny_project, world

NEWEST = datetime(2026, 1, 11, 1, tzinfo=UTC)
USERS = (*range(12), 1000)  # all of the tiny world, and a stranger
SERVER = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(SERVER is None, reason="there is no redis-server: apt-get install redis-server")


class Server:
    """A Redis of its own, without a disk."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.start()

    @property
    def address(self) -> str:
        """As HINET_REDIS has it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, empty, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([str(SERVER), *options], stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port)
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(redis.ConnectionError):
                self.client.ping()
                return
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it, frozen or not."""
        self.client.close()
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis that the tests of this file may freeze, but not kill."""
    made = Server(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


BUSY = 5.0  # seconds that sqlite3 waits for a lock unless told otherwise
HOLD = """import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma locking_mode = exclusive")
connection.execute("begin exclusive")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def locked_by_another(online: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a SQLite file for itself, until it is killed or its input ends."""
    command = [sys.executable, "-c", HOLD, str(online)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder


@pytest.fixture(autouse=True)
def _without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data Docs are tested by themselves."""
    monkeypatch.setattr(gate.datadocs, "build", lambda *values, **named: None)


def fill(project: Path, folder: Path, address: str, moment: datetime = NEWEST) -> dict:
    """Refresh a Redis from the features of a project; what stands beside it lies in `folder`."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(project):
        patch.setenv(REDIS, address)
        data = project / "data"
        refresh(
            schema=data / "schema.json",
            features=data / "features",
            online=folder / "online.db",
            as_of=moment,
            out=folder / "out",
        )
    return json.loads((folder / "out/refresh.json").read_text())


@pytest.fixture(scope="module")
def filled(project: Path, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder beside the Redis, which holds the features of the tiny project."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gate.datadocs, "build", lambda *values, **named: None)
        fill(project, folder, server.address)
    return folder


def opened(project: Path, sources: ModelSources, **store: Any) -> Ranker:
    """A ranker that opens its breaker after two failures and tries again at once."""
    return open_ranker(
        sources, tiny_project.with_read_timeout(project, store={"failures": 2, "pause_seconds": 0.05} | store)
    )


@pytest.fixture
def on_redis(project: Path, server: Server, filled: Path, tmp_path: Path) -> Ranker:
    """A ranker whose online store is Redis, with half a second of patience."""
    sources = ModelSources(project / tiny_project.MODEL, filled / "online.db", tmp_path / "registry.db", server.address)
    return opened(project, sources, timeout_ms=500.0)


def rank(ranker: Ranker, user: int = 1, scenario: str = "search") -> RankingResult:
    """All items for a user."""
    accepted = request_type(ranker.state.schema, tiny_project.with_read_timeout(ROOT))
    return ranker.rank(accepted(user_id=user, scenario=scenario, candidates="all"))


def wait(until: Callable[[], bool]) -> None:
    """Until something is so."""
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def recovers(ranker: Ranker, user: int = 1) -> None:
    """Answers are whole again after a while, without anybody's help."""
    wait(lambda: rank(ranker, user).degraded is None)


@needs_redis
def test_both_stores_give_what_evaluate_gives(
    project: Path, on_redis: Ranker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every user in every scenario, all items: the plain forward of rows from Feast, to 1e-6, from either store."""
    on_sqlite = tiny_project.ranker(project, tmp_path_factory.mktemp("sqlite") / "registry.db")
    state = on_sqlite.state
    for user in USERS:
        for scenario in state.schema.scenarios:
            one, other = rank(on_sqlite, user, scenario), rank(on_redis, user, scenario)
            assert (one.degraded, other.degraded) == (None, None)
            assert one.items == other.items
            expected = dict(zip(range(9), evaluated(on_sqlite, user, scenario), strict=True))
            for ranked in (one, other):
                found = np.array(list(ranked.probabilities.values())).T
                np.testing.assert_allclose(found, [expected[item] for item in ranked.items], rtol=0, atol=1e-6)


@needs_redis
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_the_row_of_a_user_is_what_feast_reads(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, store: str
) -> None:
    """Values and moments of every view, of every user in every scenario, as get_online_features gives them."""
    on_redis = store == "redis"
    ranker = request.getfixturevalue("on_redis") if on_redis else tiny_project.ranker(project, tmp_path / "registry.db")
    users, schema = ranker.state.users, ranker.state.schema
    wanted = [f"{view}:{name}" for view, names in users.columns.items() for name in names]
    for user in USERS:
        for scenario in schema.scenarios:
            entity = {"user_id": user, "scenario": scenario}
            found = users.store.get_online_features(features=wanted, entity_rows=[entity])
            expected = {name: value for name, (value,) in found.to_dict(include_event_timestamps=True).items()}
            row, degraded = users.row(entity)
            assert degraded is None
            for view, names in users.columns.items():
                assert row.moments.get(view, 0) == expected[f"{names[0]}__ts"]
                assert {name: row.values.get(name) for name in names} == {name: expected[name] for name in names}


def evaluated(ranker: Ranker, user: int, scenario: str) -> np.ndarray:
    """Probabilities of items 0 to 8 by Feast's rows, the Encoder, and the network."""
    state = ranker.state
    wanted = [f"{view.name}:{column.name}" for view in state.model.views for column in view.columns]
    entities = [{"user_id": user, "scenario": scenario, "item_id": item} for item in range(9)]
    found = state.users.store.get_online_features(features=wanted, entity_rows=entities).to_dict()
    catalogue = state.items(range(9), np.arange(9), {name: found[name] for name in found if name in ITEM_COLUMNS})
    values = {name: column[0] for name, column in found.items() if name not in ITEM_COLUMNS}
    rows = state.seen({**values, "user_id": user, "scenario": scenario}, catalogue)
    logits = forward(state.model, state.model.encoder.encode(rows))
    return as_probabilities(logits, [task.outputs for task in state.schema.tasks])


ITEM_COLUMNS = {column.name for column in world.schema().items} | {
    f"item_{name}_{window}" for name in ("impressions", "click_rate", "order_rate") for window in ("7d", "all")
}


@needs_redis
def test_a_refresh_of_redis_writes_what_is_new(project: Path, server: Server, tmp_path: Path) -> None:
    """Step by step as with SQLite; twice is once; a revised value of the same moment gets in."""
    database = f"{server.address},db=1"
    copied = tmp_path / "project"
    shutil.copytree(project / "data/features", copied / "data/features")
    shutil.copy(project / "data/schema.json", copied / "data")
    shutil.copy(project / "params.yaml", copied)
    first = fill(copied, tmp_path, database, datetime(2026, 1, 8, 12, tzinfo=UTC))
    assert all(view["written"] for view in first["views"].values())
    assert fill(copied, tmp_path, database)["whole"] is False
    assert not any(view["written"] for view in fill(copied, tmp_path, database)["views"].values())
    path = copied / "data/features/item.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table rows as select * replace (price + 1 as price) from '{path}'")
        connection.execute(f"copy rows to '{path}' (format parquet)")
    again = fill(copied, tmp_path, database)
    assert (again["views"]["item"]["written"], again["again"]) == (9, False)
    assert item_snapshot_path(tmp_path / "online.db").exists()


@needs_redis
def test_a_refresh_without_a_redis_asks_for_later(project: Path, tmp_path: Path) -> None:
    """Nobody listens there: the status says try again, the sentence why."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(StoreUnavailableError, match="the Redis of HINET_REDIS") as error:
            fill(project, tmp_path, f"127.0.0.1:{free.getsockname()[1]}")
    assert error.value.exit_status == LOCKED


@needs_redis
def test_a_full_redis_is_told_and_nothing_is_called_done(project: Path, tmp_path: Path) -> None:
    """No memory left, and nothing may be dropped: a sentence; watermark and snapshot stay, with room it goes on."""
    server = Server(tmp_path)
    try:
        fill(project, tmp_path, server.address, datetime(2026, 1, 8, 12, tzinfo=UTC))
        online = tmp_path / "online.db"
        before, items = Watermark.read(state_dir(online) / WATERMARK), item_snapshot_path(online).read_bytes()
        server.client.config_set("maxmemory", 1)
        with pytest.raises(
            StoreError, match=rf"{server.address}\) is full: expected room for \d+ rows of the view \w+"
        ):
            fill(project, tmp_path, server.address)
        after = Watermark.read(state_dir(online) / WATERMARK)
        assert (after.views, after.declared, after.begun) == (before.views, before.declared, NEWEST)
        assert item_snapshot_path(online).read_bytes() == items
        server.client.config_set("maxmemory", 0)
        told = fill(project, tmp_path, server.address)
        assert (told["whole"], told["again"]) == (False, False), "it went on with what was missing"
        assert item_snapshot_path(online).read_bytes() != items
    finally:
        server.stop()


@needs_redis
def test_a_frozen_redis_costs_two_waits_and_then_nothing(server: Server, on_redis: Ranker) -> None:
    """Frozen, then alive again: flagged and bounded meanwhile, no wait once given up, whole afterwards."""
    whole = rank(on_redis)
    server.process.send_signal(signal.SIGSTOP)
    try:
        found = [rank(on_redis) for _ in range(20)]
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert all("online store: no answer within 500 ms" in (answer.degraded or "") for answer in found)
    assert min(answer.seconds["features"] for answer in found[2:]) < 0.005
    assert max(answer.seconds["features"] for answer in found[:2]) < 2
    assert all(answer.items == whole.items for answer in found)  # remembered
    recovers(on_redis)
    np.testing.assert_array_equal(rank(on_redis).scores, whole.scores)


@needs_redis
def test_a_slow_redis_is_not_waited_for(server: Server, on_redis: Ranker) -> None:
    """Slower than the patience of the service: a user who is not remembered is served as one without features."""
    rank(on_redis)
    server.client.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    found = rank(on_redis, user=2)
    assert found.degraded == "online store: no answer within 500 ms; the user's features are unknown"
    assert found.unknown_user is False  # his id is known to the model
    recovers(on_redis, user=2)
    assert rank(on_redis, user=2).items != [] != found.items


@needs_redis
def test_a_killed_redis_comes_back(project: Path, tmp_path: Path) -> None:
    """Killed: flagged with the reason at once; started, but empty: flagged, too; filled again: whole, by itself."""
    server = Server(tmp_path)
    try:
        fill(project, tmp_path, server.address)
        sources = ModelSources(project / tiny_project.MODEL, tmp_path / "online.db", tmp_path / "r.db", server.address)
        ranker = opened(project, sources, timeout_ms=500.0, remembered_users=0)
        whole = rank(ranker)
        server.stop()
        found = [rank(ranker) for _ in range(10)]
        assert all(answer.degraded and "features are unknown" in answer.degraded for answer in found)
        assert min(answer.seconds["features"] for answer in found[2:]) < 0.005
        server.start()
        wait(lambda: "was it emptied?" in str(rank(ranker).degraded))
        assert rank(ranker, user=1000).degraded is None  # nobody knows him
        shutil.rmtree(tmp_path / "online.db.written")
        fill(project, tmp_path, server.address)
        recovers(ranker)
        np.testing.assert_array_equal(rank(ranker).scores, whole.scores)
    finally:
        server.stop()


def test_a_locked_sqlite_is_not_waited_for(project: Path, tmp_path: Path) -> None:
    """A writer that keeps others out: flagged, bounded, and whole when it has gone."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    ranker = opened(project, ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db"), timeout_ms=200.0)
    whole = rank(ranker)
    with contextlib.closing(functools.partial(sqlite3.connect, isolation_level=None)(online)) as writer:
        writer.execute("begin exclusive")
        found = [rank(ranker, user) for user in (1, 2, 1, 2)]
        writer.execute("rollback")
    assert [answer.degraded is not None for answer in found] == [True] * 4
    assert "those of the last request" in str(found[0].degraded)
    assert "unknown" in str(found[1].degraded)
    assert "2 times in a row" in str(found[3].degraded)
    recovers(ranker)
    np.testing.assert_array_equal(rank(ranker).scores, whole.scores)


def test_a_service_starts_while_sqlite_is_locked(project: Path, tmp_path: Path) -> None:
    """Another process holds the file for itself: it opens at once, answers flagged, and is whole when that one ends."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    with locked_by_another(online) as holder:
        began = time.perf_counter()
        ranker = opened(
            project, ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db"), timeout_ms=200.0
        )
        assert time.perf_counter() - began < BUSY, "it waited for the file"
        found = [rank(ranker, user) for user in (1, 2, 3)]
        assert all("the user's features are unknown" in str(answer.degraded) for answer in found)
        assert all(answer.items for answer in found)
        holder.kill()
        holder.wait()
        recovers(ranker)
    whole = tiny_project.ranker(project, tmp_path / "other.db")
    np.testing.assert_array_equal(rank(ranker).scores, rank(whole).scores)


def test_a_locked_sqlite_does_not_stop_the_process(project: Path, tmp_path: Path) -> None:
    """Many readers of one connection wait no longer than a request, and a thread beside them goes on all the time."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    users = opened(
        project, ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db"), timeout_ms=100.0
    ).state.users
    moments = [time.perf_counter()]
    with locked_by_another(online) as holder, ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(users._read, (1, "search")) for _ in range(8)]
        while not all(read.done() for read in reads):
            time.sleep(0.01)
            moments.append(time.perf_counter())
        holder.kill()
    assert all("database is locked" in str(read.exception()) for read in reads)
    assert moments[-1] - moments[0] < BUSY
    assert np.diff(moments).max() < BUSY / 4


def test_what_sqlite_gives_is_of_one_moment(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes between the views of a read waits until it is over; then all of it is seen."""
    online = Path(shutil.copy(project / tiny_project.ONLINE, tmp_path))
    shutil.copy(item_snapshot_path(project / tiny_project.ONLINE), tmp_path)
    users = opened(project, ModelSources(project / tiny_project.MODEL, online, tmp_path / "r.db")).state.users
    before, read, views = users._read((1, "search")).moments, users._online.online_read, []

    def move() -> None:
        """A day on, in one transaction."""
        with contextlib.closing(sqlite3.connect(online, timeout=0)) as writer, writer:
            for (table,) in writer.execute("select name from sqlite_master where type = 'table'").fetchall():
                writer.execute(f'update "{table}" set event_ts = event_ts + 86400')

    def read_and_move(*asked: Any) -> Any:
        views.append(asked[1].name)
        found = read(*asked)
        with contextlib.suppress(sqlite3.OperationalError):
            move()
        return found

    monkeypatch.setattr(users._online, "online_read", read_and_move)
    assert users._read((1, "search")).moments == before
    assert len(views) == len(before) == 2
    monkeypatch.undo()
    move()
    after = users._read((1, "search")).moments
    assert all(after[view] - moment == 86400 for view, moment in before.items())


def test_the_last_users_are_remembered_and_no_more(project: Path, tmp_path: Path) -> None:
    """As many as the parameters say, the latest first."""
    ranker = tiny_project.ranker(project, tmp_path / "r.db", store={"remembered_users": 2})
    for user in (1, 2, 1, 3):
        rank(ranker, user)
    assert [keys[0] for keys in ranker.state.users._remembered] == [1, 3]
