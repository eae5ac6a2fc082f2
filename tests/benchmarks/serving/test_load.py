"""The load generator and the proxy of the benchmark: what they measure is what happened."""

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


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server that answers one after another."""
    with stand_in(HTTPServer) as address:
        yield address


@pytest.fixture
def quick() -> Iterator[str]:
    """The address of a server that answers many at once."""
    with stand_in(ThreadingHTTPServer) as address:
        yield address


def sent(url: str, folder: Path, lines: list[object], **options: object) -> dict[str, np.ndarray]:
    """What the generator wrote down."""
    bodies = folder / "bodies.jsonl"
    bodies.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    load(url=url, bodies=bodies, out=folder / "out.npz", **({"rate": 20, "seconds": 0.5} | options))  # type: ignore
    with np.load(folder / "out.npz") as kept:
        return dict(kept)


def test_departures_follow_the_rate_and_not_the_answers() -> None:
    """Drawn beforehand: as many as the rate says, ascending, the same for the same seed; or evenly spaced."""
    moments = departures(200, 10, poisson=True, seed=3)
    assert len(moments) == 2000
    assert (np.diff(moments) >= 0).all()
    assert 0 <= moments[0] < moments[-1] <= 10
    assert np.array_equal(moments, departures(200, 10, poisson=True, seed=3))
    gaps = np.diff(moments)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    np.testing.assert_allclose(np.diff(departures(4, 2, poisson=False, seed=1)), 0.25)


def test_a_queue_before_a_slow_server_is_in_the_latencies(server: str, tmp_path: Path) -> None:
    """At twice what it can do, the last request waits for half of all that were sent."""
    found = sent(server, tmp_path, ["yes"], rate=2 / SLOW, seconds=0.6, poisson=False)
    assert (found["status"] == 200).all()
    assert len(found["status"]) == 40
    waited = 20 * SLOW
    assert found["latency"][-5:].mean() > 0.7 * waited > 5 * found["latency"][0]


def test_a_closed_loop_waits_for_each_answer(server: str, tmp_path: Path) -> None:
    """One connection: one request after another, so that it sees no queue."""
    found = sent(server, tmp_path, ["yes"], rate=0, connections=1)
    assert 1 < len(found["status"]) <= 0.5 / SLOW + 1
    assert (np.diff(found["scheduled"]) >= SLOW).all()


def test_what_failed_is_told_from_what_was_answered(quick: str, tmp_path: Path) -> None:
    """Statuses, and degraded answers, by the number of the body."""
    found = sent(quick, tmp_path, ["yes", "no", {"degraded": "why"}, {"degraded": None}])
    np.testing.assert_array_equal(found["status"], np.where(found["body"] == 1, 503, 200))
    np.testing.assert_array_equal(found["degraded"], found["body"] == 2)


def test_different_answers_are_kept_where_asked_for(quick: str, tmp_path: Path) -> None:
    """Each answer of each body once, with its moment."""
    sent(quick, tmp_path, [{"a": 1}, "no"], answers=tmp_path / "answers.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [(line["body"], line["status"], line["answer"]) for line in lines] == [(0, 200, {"a": 1}), (1, 503, '"no"')]


def test_nobody_there_is_a_failure_and_no_hang(tmp_path: Path) -> None:
    """Status 0 for each request."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = sent(f"http://127.0.0.1:{closed.getsockname()[1]}", tmp_path, ["yes"])
    assert (found["status"] == 0).all()
    assert len(found["status"]) == 10


@pytest.mark.parametrize(
    "wrong", [{"url": "http://example.com/rank"}, {"seconds": 1e9}, {"seconds": 0}, {"rate": -1}, {"connections": 0}]
)
def test_load_is_bounded_and_stays_here(tmp_path: Path, wrong: dict) -> None:
    """No other machine, no endless run."""
    with pytest.raises(ParameterError):
        sent(**({"url": "http://127.0.0.1:1", "folder": tmp_path, "lines": ["yes"]} | wrong))


def test_the_proxy_is_late_by_what_it_is_told(quick: str, tmp_path: Path) -> None:
    """And by nothing else; changed while it is in use."""
    with proxy(int(quick.rsplit(":", 1)[1])) as between:
        usual = sent(f"http://127.0.0.1:{between.port}", tmp_path, ["yes"])
        between.delay = 0.2
        late = sent(f"http://127.0.0.1:{between.port}", tmp_path, ["yes"])
    assert (usual["status"] == 200).all()
    assert (late["status"] == 200).all()
    assert late["latency"].min() > 0.2 + SLOW
    assert np.median(usual["latency"]) < np.median(late["latency"]) - 0.15


def test_a_proxy_that_ends_cuts_its_connections() -> None:
    """On both sides and at once: none waits for the garbage collector to be closed."""
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


def test_the_bare_endpoint_answers_as_much_as_a_ranking() -> None:
    """Four numbers per item."""
    said = json.loads(answer(200))
    assert {len(said["items"]), len(said["scores"]), len(said["probabilities"]["click"])} == {200}
