"""The load generator, the proxy and the constant application: they measure what happened."""

import gc
import json
import socket
from collections.abc import Iterator
from http.server import HTTPServer, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.bare import answer
from benchmarks.serving.load import departures, load
from benchmarks.serving.proxy import proxy
from common.errors import ParameterError
from tests.support.slow_server import SLOW, stand_in

pytestmark = pytest.mark.integration


@pytest.fixture
def sequential() -> Iterator[str]:
    """The address of a server that answers one request after another."""
    with stand_in(HTTPServer) as address:
        yield address


@pytest.fixture
def concurrent() -> Iterator[str]:
    """The address of a server that answers many requests at once."""
    with stand_in(ThreadingHTTPServer) as address:
        yield address


def send(url: str, folder: Path, lines: list[object], **options: object) -> dict[str, np.ndarray]:
    """The outcomes that the generator wrote."""
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    load(url=url, bodies=bodies, out=folder / "out.npz", **({"rate": 20, "seconds": 0.5} | options))  # type: ignore
    with np.load(folder / "out.npz") as kept:
        return dict(kept)


def test_departures_follow_the_rate_and_not_the_answers() -> None:
    """They are drawn beforehand, ascending, and equal for the same seed; or evenly spaced."""
    schedule = departures(200, 10, poisson=True, seed=3)
    assert len(schedule) == 2000
    assert (np.diff(schedule) >= 0).all()
    assert 0 <= schedule[0] < schedule[-1] <= 10
    assert np.array_equal(schedule, departures(200, 10, poisson=True, seed=3))
    gaps = np.diff(schedule)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    np.testing.assert_allclose(np.diff(departures(4, 2, poisson=False, seed=1)), 0.25)


def test_the_queue_of_a_slow_server_is_in_the_latencies(sequential: str, tmp_path: Path) -> None:
    """At twice its throughput, the last request waits for half of all requests."""
    outcomes = send(sequential, tmp_path, ["yes"], rate=2 / SLOW, seconds=0.6, poisson=False)
    assert (outcomes["status"] == 200).all()
    assert len(outcomes["status"]) == 40
    wait = 20 * SLOW
    assert outcomes["latency"][-5:].mean() > 0.7 * wait > 5 * outcomes["latency"][0]


def test_a_closed_loop_waits_for_each_answer(sequential: str, tmp_path: Path) -> None:
    """One connection sends one request after another, so that there is no queue."""
    outcomes = send(sequential, tmp_path, ["yes"], rate=0, connections=1)
    assert 1 < len(outcomes["status"]) <= 0.5 / SLOW + 1
    assert (np.diff(outcomes["scheduled"]) >= SLOW).all()


def test_failed_and_degraded_answers_are_recorded(concurrent: str, tmp_path: Path) -> None:
    """By the index of the body."""
    outcomes = send(concurrent, tmp_path, ["yes", "no", {"degraded": "why"}, {"degraded": None}])
    np.testing.assert_array_equal(outcomes["status"], np.where(outcomes["body"] == 1, 503, 200))
    np.testing.assert_array_equal(outcomes["degraded"], outcomes["body"] == 2)


def test_different_answers_are_kept_on_request(concurrent: str, tmp_path: Path) -> None:
    """Each different answer of each body is kept once, with its status."""
    send(concurrent, tmp_path, [{"a": 1}, "no"], answers=tmp_path / "answers.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(line["body"], line["status"], line["answer"]) for line in lines] == [(0, 200, {"a": 1}), (1, 503, '"no"')]


def test_a_refused_connection_is_a_failed_request(tmp_path: Path) -> None:
    """Each request has the status 0, and the generator does not hang."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcomes = send(f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path, ["yes"])
    assert (outcomes["status"] == 0).all()
    assert len(outcomes["status"]) == 10


@pytest.mark.parametrize(
    "wrong", [{"url": "http://example.com/rank"}, {"seconds": 1e9}, {"seconds": 0}, {"rate": -1}, {"connections": 0}]
)
def test_load_is_bounded_and_sent_to_this_machine_only(tmp_path: Path, wrong: dict) -> None:
    """Another host, an endless run and an impossible number are refused."""
    with pytest.raises(ParameterError):
        send(**({"url": "http://127.0.0.1:1", "folder": tmp_path, "lines": ["yes"]} | wrong))


def test_the_proxy_delays_answers_by_its_delay(concurrent: str, tmp_path: Path) -> None:
    """The delay can be changed while the proxy is in use."""
    with proxy(int(concurrent.rsplit(":", 1)[1])) as between:
        usual = send(f"http://127.0.0.1:{between.port}", tmp_path, ["yes"])
        between.delay = 0.2
        late = send(f"http://127.0.0.1:{between.port}", tmp_path, ["yes"])
    assert (usual["status"] == 200).all()
    assert (late["status"] == 200).all()
    assert late["latency"].min() > 0.2 + SLOW
    assert np.median(usual["latency"]) < np.median(late["latency"]) - 0.15


def test_a_proxy_that_ends_cuts_its_connections() -> None:
    """On both sides and at once, without the garbage collector."""
    gc.disable()
    try:
        with socket.create_server(("127.0.0.1", 0)) as target, socket.socket() as client:
            with proxy(target.getsockname()[1]) as between:
                client.connect(("127.0.0.1", between.port))
                side, _ = target.accept()
                side.sendall(b"x")
                assert client.recv(1) == b"x"
            for end in (client, side):
                end.settimeout(5)
                assert end.recv(1) == b""
            side.close()
    finally:
        gc.enable()


def test_the_constant_answer_is_as_long_as_a_ranking() -> None:
    """It has four numbers per item."""
    document = json.loads(answer(200))
    assert {len(document["items"]), len(document["scores"]), len(document["probabilities"]["click"])} == {200}
