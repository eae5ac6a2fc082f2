"""The benchmarks of the service: figures of known samples, verdicts, loads that do not wait, faults taken back."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from http.server import HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis

from benchmarks.serving import faults, soak
from benchmarks.serving.benchmark import Bench, goals
from benchmarks.serving.faults import FAULTS, Redis, World, chosen_faults
from benchmarks.serving.points import Offered, measure, percentiles, start_load
from benchmarks.serving.proxy import proxy
from benchmarks.serving.servers import Server
from benchmarks.serving.soak import Variants, judged
from benchmarks.serving.stores import REDIS, SQLITE, fill_redis, online_store
from common.errors import ParameterError, PipelineError
from features.store.item_snapshot import snapshot_beside
from models.model_folder import read_model
from tests.support import tiny_project
from tests.support.slow_server import SLOW, stand_in

NO_REDIS = shutil.which("redis-server") is None
needs_redis = pytest.mark.skipif(NO_REDIS, reason="there is no redis-server: apt-get install redis-server")


@pytest.fixture
def slow() -> Iterator[Server]:
    """A server that answers one request after another."""
    with stand_in(HTTPServer) as address:
        yield Server(address, psutil.Process(), Path(), 0.0)


@pytest.fixture
def quick() -> Iterator[Server]:
    """A server that answers many at once."""
    with stand_in(ThreadingHTTPServer) as address:
        yield Server(address, psutil.Process(), Path(), 0.0)


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    """One body, named as that of 200 candidates."""
    path = tmp_path / "200.jsonl"
    path.write_bytes(b"{}\n")
    return path


def offered(**columns: list[Any]) -> Offered:
    """What came of requests, one a second, unless `columns` say otherwise."""
    count = len(next(iter(columns.values())))
    plain = {
        "moments": range(count),
        "late": [0.0] * count,
        "latency": [1.0] * count,
        "status": [200] * count,
        "degraded": [False] * count,
    }
    return Offered(**{name: np.array(values) for name, values in (plain | columns).items()})


def test_percentiles_of_a_known_sample() -> None:
    """Of 0 to 100 in any order: 50, 95, 99 and the longest; of nothing: no number, and no error."""
    sample = np.random.default_rng(0).permutation(101).astype(float)
    assert percentiles(sample) == (50, 95, 99, 100)
    assert percentiles(np.array([7.0])) == (7, 7, 7, 7)
    assert np.isnan(percentiles(np.array([]))).all()


def test_a_request_belongs_to_the_span_in_which_it_was_to_leave() -> None:
    """From the beginning of the span on, and not at its end: two spans that meet share none."""
    found = offered(moments=[0.0, 1.0, 1.5, 2.0], latency=[1.0, 2.0, 3.0, 4.0])
    assert found.between(1, 2).latency.tolist() == [2, 3]
    assert sum(len(found.between(start, start + 1).status) for start in range(3)) == 4


def test_an_open_load_does_not_wait_for_answers(slow: Server, bodies: Path) -> None:
    """60 requests a second to a server of 33: all leave, and the queue is in the latencies; a closed load hides it."""
    loaded = measure(slow, bodies, candidates=200, rate=60, seconds=1.5, connections=256)
    assert (loaded.requests, loaded.errors) == (90, 0)
    assert loaded.longest > 1000 * 0.5, "90 answers at 33 a second are there 1.2 s after the last departure"
    assert loaded.answers_per_second < 1 / SLOW
    closed = measure(slow, bodies, candidates=200, rate=None, seconds=1.5, connections=2)
    assert closed.requests <= 1.5 / SLOW + 2
    assert closed.p50 < loaded.p50 / 2


def test_rates_beyond_what_is_answered_are_not_tried(slow: Server, bodies: Path, tmp_path: Path) -> None:
    """The first rate of which less than nine tenths are answered is measured, and is the last."""
    bench = Bench(None, tmp_path, tmp_path, tmp_path, tmp_path, seconds=1.5)  # type: ignore[arg-type]
    assert [point.rate for point in bench._rates(slow, {200: (5, 100, 200)})] == [5, 100]


def test_a_load_that_cannot_be_sent_is_an_error(quick: Server, bodies: Path) -> None:
    """The generator's own refusal ends the measurement: it is no point of zeros."""
    with pytest.raises(PipelineError, match="the load generator ended with status 1"):
        start_load(quick, bodies, rate=-1, seconds=1).__enter__()


def report(
    p99: float = 10.0, errors: int = 0, ours: float = 800.0, service: float = 3.0, degraded: float = 5.0
) -> dict[str, Any]:
    """What benchmarks.serving.benchmark measured, as far as goals go."""
    point = {
        "candidates": 200,
        "rate": 100,
        "state": "warm",
        "store": "sqlite",
        "workers": 1,
        "p99": p99,
        "errors": errors,
    }
    rates = [
        {"server": server, "workers": workers, "answers_per_second": rate}
        for server, rate in (("ours", ours), ("plain", 100.0), ("bare", 9e3))
        for workers in (1, 2)
    ]
    inside = {"200": {name: {"median": ms} for name, ms in (("service", service), ("feast", 1.0), ("forward", 1.0))}}
    inside["200"]["degraded"] = {"median": 1.0, "p99": degraded}
    return {"points": [point, point | {"state": "cold", "p99": 1e6}], "throughput": rates, "inside": inside}


@pytest.mark.parametrize(
    ("changes", "reached"),
    [
        ({}, [True, True, True, True, True]),
        ({"p99": 15.1}, [False, True, True, True, True]),
        ({"errors": 1}, [False, True, True, True, True]),  # fast refusals are no answers
        ({"ours": 799.0}, [True, False, False, True, True]),
        ({"service": 3.1}, [True, True, True, False, True]),
        ({"degraded": 5.1}, [True, True, True, True, False]),
    ],
)
def test_a_goal_is_reached_at_its_limit_and_not_beyond(changes: dict[str, Any], reached: list[bool]) -> None:
    """p99 of the warm points, throughput over the plain service's, service time over its parts, and degraded."""
    found = goals(report(**changes))
    assert [goal["reached"] for goal in found] == reached
    assert found[0]["goal"] == "200 candidates at 100/s, sqlite, 1 workers: p99, ms"


def test_a_mixed_answer_is_found() -> None:
    """Probabilities of one snapshot under the scores of another are no pair's answer; failures are not judged."""
    pairs = [
        {"model": model, "item_ids": [1], "scores": [score], "probabilities": {"click": [score]}, "degraded": None}
        for model, score in (("a", 0.1), ("a", 0.2), ("b", 0.3))
    ]
    expected = [[soak._said(pair) for pair in pairs]]
    mixed = pairs[0] | {"probabilities": {"click": [0.2]}}
    said = [
        {"body": 0, "status": 200, "answer": answer}
        for answer in (pairs[0], pairs[2], mixed, mixed | {"degraded": "the store"})
    ]
    said.append({"body": 0, "status": 503, "answer": "later"})
    found, seen = judged(said, expected)
    assert [one["answer"] for one in found] == [mixed]
    assert seen == {0, 2}


def test_memory_grows_from_when_a_process_has_settled() -> None:
    """Its start does not count; a process that ended is not there."""
    looks = [{"moment": moment, "megabytes": {"1": mb, "2": 50.0}} for moment, mb in ((0, 10.0), (60, 100.0))]
    looks.append({"moment": 120, "megabytes": {"1": 106.0}})
    assert soak._growth(looks) == {"1": pytest.approx(1.06)}


def test_a_worker_without_work_is_seen_and_so_is_a_host_that_takes() -> None:
    """Of ten seconds: the share of a core of each process, and of all cores what others had of them."""
    used = ({"1": 4.0, "2": 3.0, "3": 1.0}, {"1": 9.0, "2": 3.0})
    looks = [{"moment": 10.0 * i, "processor_seconds": of, "stolen_seconds": 2.0 * i} for i, of in enumerate(used)]
    assert soak._cores(looks) == {"1": 0.5, "2": 0.0}
    assert soak._stolen(looks) == pytest.approx(0.2 / (psutil.cpu_count() or 1))
    assert np.isnan(soak._stolen(looks[:1]))


def test_variants_are_exchanged_by_renames(project: Path, tmp_path: Path) -> None:
    """Two whole models of other tags behind one link, two snapshots of other bytes at one place; the same stays put."""
    world = Variants(project / tiny_project.MODEL, project / tiny_project.ONLINE, tmp_path)
    tags, snapshots = [], []
    for pair in (0, 1):
        world.use(pair, pair)
        tags.append(read_model(world.model.resolve()).tag)
        snapshots.append(snapshot_beside(world.online).read_bytes())
    assert tags[0] != tags[1]
    assert snapshots[0] != snapshots[1]
    before = snapshot_beside(world.online).stat().st_ino
    world.use(0, 1)
    assert snapshot_beside(world.online).stat().st_ino == before
    assert read_model(world.model.resolve()).tag == tags[0]


@pytest.fixture
def broken(project: Path, tmp_path: Path) -> Iterator[World]:
    """Copies of the tiny model and its stores, and a Redis behind a proxy that holds one value."""
    model, online = tmp_path / "model", tmp_path / "online.db"
    shutil.copytree(project / tiny_project.MODEL, model)
    shutil.copyfile(project / tiny_project.ONLINE, online)
    shutil.copyfile(snapshot_beside(project / tiny_project.ONLINE), snapshot_beside(online))
    with Redis(tmp_path) as server, proxy(server.port) as between:
        with contextlib.closing(server.client()) as client:
            client.set("kept", "value")
        yield World(model, online, server, between)


class StopError(Exception):
    """What a benchmark may die of."""


def whole(world: World) -> list[Any]:
    """What is there when nothing is broken."""
    with contextlib.closing(sqlite3.connect(world.online, timeout=0)) as connection:
        tables = connection.execute("select count(*) from sqlite_master").fetchone()
    with contextlib.closing(redis.Redis(port=world.proxy.port, socket_timeout=0.5)) as client:
        client.set("written", "again")
        kept = client.get("kept")
    files = [path.read_bytes() for path in (snapshot_beside(world.online), world.model / "weights.safetensors")]
    return [tables, kept, world.proxy.delay, *files]


@needs_redis
def test_every_fault_breaks_something_and_is_taken_back_after_a_failure(broken: World) -> None:
    """Whatever ends the benchmark in the middle of it, the world is what it was."""
    before = whole(broken)
    for name, (_, fault) in FAULTS.items():
        with pytest.raises(StopError), fault(broken):  # noqa: PT012 (the end comes in the middle of it)
            with contextlib.suppress(sqlite3.OperationalError, redis.RedisError):
                assert whole(broken) != before, f"{name} breaks nothing"
            raise StopError
        assert whole(broken) == before, name


def test_faults_are_chosen_by_a_word_of_their_names() -> None:
    """Between commas; a word that names none is an error with the names that there are."""
    assert list(chosen_faults("snapshot, weights,SQLite")) == list(FAULTS)[-3:]
    assert chosen_faults("") == FAULTS
    with pytest.raises(ParameterError, match=r"--only: no fault is named 'redis'; expected a word of: Redis frozen"):
        chosen_faults("snapshot,redis")


def test_errors_count_from_the_start_and_degraded_answers_while_it_is_broken() -> None:
    """Broken from 2 to 5 s, whole again 2 s later, when the last degraded answer was asked for."""
    found = offered(
        status=[503, 200, 200, 200, 0, 200, 200, 200, 200],
        degraded=[False, False, True, True, False, True, False, True, False],
        latency=[1.0, 1.0, 5.0, 6.0, 9.0, 1.0, 1.0, 1.0, 1.0],
    )
    judged_ = faults._judge("any", found, 2.0, 5.0, "ready")
    assert (judged_.requests, judged_.errors, judged_.degraded) == (3, 2, 2)
    assert (judged_.p50, judged_.longest, judged_.recovered_after) == (6.0, 9.0, 2.0)


@needs_redis
def test_redis_is_filled_with_the_rows_of_users(project: Path) -> None:
    """The environment names it, and every user of the tiny world is there; SQLite needs nothing."""
    model = read_model(project / tiny_project.MODEL)
    with online_store(SQLITE, model, Path("nowhere")) as environment:
        assert environment == {}
    with online_store(REDIS, model, project / "data" / "features") as environment:
        host, port = environment["HINET_REDIS"].split(":")
        with contextlib.closing(redis.Redis(host, int(port))) as client:
            assert client.dbsize() >= 12
    with pytest.raises(PipelineError, match=r"nowhere does not exist, from which Redis is filled: run `dvc repro"):
        fill_redis(1, model, Path("nowhere"))
