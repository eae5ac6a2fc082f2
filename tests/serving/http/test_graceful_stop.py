"""The stop of a worker: what is in flight is answered, what comes is refused, and it ends within seconds."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.paths import ROOT
from serving.http.graceful_stop import DEADLINE
from tests.support.serving import VALID, problem_of

LIMIT = 10.0  # seconds, of every stop
WORKER = """
import contextlib, socket, sys, uvicorn
from serving.http.graceful_stop import GracefulStop
from tests.support.serving import StubRanker, api_in_front_of
app = api_in_front_of(StubRanker(float(sys.argv[1])), concurrent=64, seconds=5)
ready = False
async def worker(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        GracefulStop(app.api).install()
        await send({"type": "lifespan.startup.complete"})
        print("ready", flush=True)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await app(scope, receive, send)
fd = int(sys.argv[3])
uvicorn.Server(uvicorn.Config(worker, log_config=None)).run(sockets=[socket.socket(fileno=fd)])
"""


@contextlib.contextmanager
def worker(seconds: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker whose rankings take `seconds`, on a socket that this process holds too, and its address."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        fd, environment = listening.fileno(), {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WORKER, str(seconds), "--fd", str(fd)]
        with subprocess.Popen(
            command, pass_fds=[fd], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield process, f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                process.kill()


def post(client: httpx.Client, path: str = "/rank", body: Any = VALID) -> httpx.Response | str:
    """The response to a request on a new connection, or the name of the error."""
    try:
        return client.post(path, json=body)
    except httpx.TransportError as error:
        return type(error).__name__


def new_connections(url: str) -> httpx.Client:
    """A client with a connection for each request."""
    return httpx.Client(base_url=url, timeout=30, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered_and_what_comes_is_refused(number: int) -> None:
    """Batches that take seconds, each with its answer; then 503 problems, then no connection; the end within 10 s."""
    with (
        worker(0.05) as (process, url),
        new_connections(url) as client,
        concurrent.futures.ThreadPoolExecutor(16) as pool,
    ):
        batches = [pool.submit(post, client, "/rank_batch", [VALID] * 5) for _ in range(10)]  # 2.5 s of work
        time.sleep(0.5)
        process.send_signal(number)
        stopped = time.monotonic()
        later = []
        while process.poll() is None:
            later.append(post(client))
            time.sleep(0.05)
        assert time.monotonic() - stopped < LIMIT
        answers = [batch.result() for batch in batches]
        assert [one if isinstance(one, str) else one.status_code for one in answers] == [200] * len(batches)
    refused = [one for one in later if not isinstance(one, str)]
    assert refused
    for response in refused:
        assert "stopping" in problem_of(response, 503)["detail"]
        assert response.headers["connection"] == "close"
    # refused, or not yet accepted when the listening socket closed: nothing of it was begun
    assert {one for one in later if isinstance(one, str)} <= {"ConnectError", "ReadError"}


@pytest.mark.process
def test_a_request_on_its_way_in_an_idle_connection_is_answered() -> None:
    """A worker that closed idle connections at once would reset it."""
    with worker(0.0) as (process, url), httpx.Client(base_url=url) as client:
        assert client.post("/rank", json=VALID).status_code == 200
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        response = client.post("/rank", json=VALID)
        assert problem_of(response, 503)
        assert response.headers["connection"] == "close"
        process.wait(LIMIT)


@pytest.mark.process
def test_a_client_that_reads_nothing_does_not_hold_the_worker() -> None:
    """Its connection stays open for ever: the worker ends all the same."""
    with worker(0.0) as (process, url), socket.socket() as client:
        client.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        body = json.dumps(VALID)
        client.sendall(f"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n".encode())
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        process.wait(LIMIT)
        assert time.monotonic() - started < DEADLINE + 1


@pytest.mark.unit
def test_the_deadline_is_within_the_ten_seconds(tmp_path: Path) -> None:
    """The rest is for the process that watches the workers."""
    assert DEADLINE < LIMIT
