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
from tests.support.connection_load import outcomes_of_a_stop
from tests.support.serving import VALID, problem_of

LIMIT = 10.0  # seconds, of every stop
WORKER = """
import contextlib, socket, sys, uvicorn
from serving.http.graceful_stop import GracefulStop
from serving.http.protocol import use_bounded_protocol
from tests.support.serving import StubRanker, api_in_front_of
app = api_in_front_of(StubRanker(float(sys.argv[1])), concurrent=64, seconds=5)
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
use_bounded_protocol()
fd = int(sys.argv[3])
uvicorn.Server(uvicorn.Config(worker, log_config=None)).run(sockets=[socket.socket(fileno=fd)])
"""
Worker = subprocess.Popen[Any]


@contextlib.contextmanager
def workers(seconds: float, count: int) -> Iterator[tuple[list[Worker], int]]:
    """Workers whose rankings take `seconds`, on a socket that this process holds too, and its port."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", 0))
        listening.listen(2048)
        started = [stack.enter_context(started_worker(listening, seconds, number)) for number in range(count)]
        for one in started:
            wait_until_ready(one)
        yield started, listening.getsockname()[1]


@contextlib.contextmanager
def started_worker(listening: socket.socket, seconds: float, number: int) -> Iterator[Worker]:
    """A worker as the arbiter of `bentoml serve` starts it; killed at the end, where it still runs."""
    fd = listening.fileno()
    command = [sys.executable, "-c", WORKER, str(seconds), "--fd", str(fd), "--worker-id", str(number)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, pass_fds=[fd], env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_ready(process: Worker) -> None:
    """Return when the worker is about to accept connections."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@contextlib.contextmanager
def worker(seconds: float) -> Iterator[tuple[Worker, str]]:
    """A single worker and its address."""
    with workers(seconds, 1) as ([process], port):
        yield process, f"http://127.0.0.1:{port}"


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
    assert {one for one in later if isinstance(one, str)} <= {"ConnectError"}


@pytest.mark.process
def test_no_connection_is_reset_under_load() -> None:
    """Two workers, 48 clients with a connection for each request: all are answered or refused, before and after."""
    with workers(0.002, 2) as (processes, port):
        outcomes = outcomes_of_a_stop(processes, port, VALID, clients=48)
    assert set(outcomes) == {"200", "503", "refused"}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_connection_is_reset_in_many_stops(count: int) -> None:
    """Quick and slow rankings, more clients than a worker holds requests at once: 429 is the only other answer."""
    for seconds, clients in ((0.0, 48), (0.002, 100), (0.02, 48), (0.02, 200)):
        with workers(seconds, count) as (processes, port):
            outcomes = outcomes_of_a_stop(processes, port, VALID, clients=clients)
        assert {"503", "refused"} <= set(outcomes) <= {"200", "429", "503", "refused"}


@pytest.mark.process
def test_the_stop_of_one_worker_leaves_the_socket_to_the_others() -> None:
    """Under load: what the stopping one accepted gets 503, all the rest an answer of the other, nothing is refused."""
    with workers(0.002, 2) as (processes, port):
        outcomes = outcomes_of_a_stop(processes[:1], port, VALID, clients=16)
        assert processes[1].poll() is None
    assert set(outcomes) <= {"200", "503"}


@pytest.mark.process
def test_a_worker_started_later_listens_on_the_socket_again() -> None:
    """The arbiter starts a worker in place of one that was signalled: the filter on the socket is gone."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        listening.bind(("127.0.0.1", port))
        listening.listen()
        for number in range(2):
            process = stack.enter_context(started_worker(listening, 0.0, number))
            wait_until_ready(process)
            with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:  # of connections
                assert client.post(f"http://127.0.0.1:{port}/rank", json=VALID).status_code == 200
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT)


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
