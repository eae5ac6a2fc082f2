"""Hostile requests of every kind, on a socket in front of a real ranker: answered or refused, and nothing is kept."""

import asyncio
import gc
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import uvicorn

from benchmarks.serving.hostile_requests import KINDS, rank
from serving.http import protocol
from serving.http.middleware import ApiMiddleware
from serving.http.protocol import BoundedProtocol
from serving.http.routes import RankingApi
from serving.ranking.hot_reload import RecentRequests
from serving.ranking.request import request_type
from serving.telemetry.impression_log import ImpressionLog
from tests.support import tiny_project
from tests.support.waiting import wait_until

VALID = {"user_id": 1, "scenario": "search", "candidates": list(range(9))}
WARM_UP, ROUNDS = 2, 4  # of a request of each kind
KEPT_BYTES = 2_000_000  # after all rounds: less than two of the large bodies
pytestmark = pytest.mark.integration


@pytest.fixture
def port(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server with every part that keeps requests: the tiny project's ranker, a log, recent requests."""
    for name in ("HEAD_SECONDS", "READ_SECONDS"):
        monkeypatch.setattr(protocol, name, 0.3)
    serve = tiny_project.with_read_timeout(project)
    serve = serve.model_copy(update={"limits": serve.limits.model_copy(update={"seconds": 0.3})})
    ranker = tiny_project.ranker(project, tmp_path / "registry.db")
    log = ImpressionLog(folder=tmp_path / "log", sample=1.0, rows_per_file=1000, seconds=0.1)
    ranker.observers += [log, RecentRequests()]
    api = RankingApi()
    accepted = request_type(ranker.loaded.schema, serve, ranker.loaded.model.views)
    api.open(ranker, accepted, serve, model_info=dict)
    config = uvicorn.Config(ApiMiddleware(api=api), lifespan="off", log_level="critical", http=BoundedProtocol)
    server, listening = uvicorn.Server(config), socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    log.close()
    listening.close()


def send(port: int, request: bytes) -> bytes:
    """The first line of the answer; empty where the connection ends without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        try:
            connection.sendall(request)
            return connection.recv(65_536).split(b"\r\n")[0]
        except OSError:  # the rest was not read
            return b""


def send_all_kinds(port: int, random: Random) -> list[bytes]:
    """The first lines of the answers to a request of each kind."""
    return [send(port, kind(random, VALID)) for kind in KINDS]


def kept_bytes() -> int:
    """The bytes that Python's objects take, without garbage."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.timeout(180)
def test_hostile_requests_are_refused_and_leave_nothing_in_memory(port: int) -> None:
    """No answer is a 500, a normal request is answered afterwards, and no more bytes are held than before."""
    random = Random(3)
    lines: list[Any] = [line for _ in range(WARM_UP) for line in send_all_kinds(port, random)]
    tracemalloc.start()
    try:
        before = kept_bytes()
        lines += [line for _ in range(ROUNDS) for line in send_all_kinds(port, random)]
        send(port, rank(VALID))
        grown = kept_bytes() - before
    finally:
        tracemalloc.stop()
    assert not [line for line in lines if b" 500 " in line]
    assert send(port, rank(VALID)).startswith(b"HTTP/1.1 200")
    assert grown < KEPT_BYTES
