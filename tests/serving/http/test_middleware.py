"""What stands before the ranking: forms, limits, the key, and that whatever is refused is told in one form."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from common import params
from common.paths import ROOT
from common.serve_params import Serve
from serving.http.middleware import ENDS, Front
from serving.http.routes import API
from serving.ranking.request import RankRequest, example, request_type
from serving.ranking.result import Ranked
from tests.serving.test_service import problem_of
from tests.support import world

SERVE = params.load(ROOT / "params.yaml").serve
ACCEPTED = request_type(world.schema(), SERVE)
VALID = example(world.schema())
JSON = {"Content-Type": "application/json"}
PICKLES = [
    "application/vnd.bentoml+pickle",
    "application/vnd.bentoml.stream_outputs",
    "application/pickle",
    "application/octet-stream",
    "application/x-pickle",
    "application/vnd.bentoml+multipart",
    "application/parquet",
]  # what BentoML reads as something other than JSON
PATHS = [
    "/rank",
    "/rank_batch",
    "/model",
    "/metrics",
    "/docs.json",
    "/",
    "/healthz",
    "/livez",
    "/readyz",
    "/schema.json",
    "/nowhere",
]


class Counts:
    """A ranker that takes its time, and counts."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.ranked = seconds, 0

    def rank(self, request: RankRequest) -> Ranked:
        """The candidates as they came, each with the score 1."""
        time.sleep(self.seconds)
        self.ranked += 1
        ones = np.ones(len(request.candidates))
        return Ranked(
            items=request.candidates,
            scores=ones,
            probabilities={"click": ones},
            model="tag",
            data_date=None,
            considered=len(ones),
            unknown_user=False,
            unknown_items=[],
        )


class Breaks(Counts):
    """A ranker with a fault."""

    def rank(self, request: RankRequest) -> Ranked:
        """Never."""
        raise RuntimeError("the secret of the house")


def front(ranker: Any = None, *, key: str | None = None, **limits: Any) -> Front:
    """A front that stands alone, before `ranker`, with other limits."""
    settings: Serve = SERVE.model_copy(update={"limits": SERVE.limits.model_copy(update=limits)})
    api = API()
    api.open(ranker or Counts(), ACCEPTED, settings, model=dict, key=key)
    return Front(api=api)


def client(app: Any) -> httpx.AsyncClient:
    """A client in the same process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=True), base_url="http://hinet")


def ask(app: Any, act: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """What `act` gets from a client of `app`."""

    async def run() -> Any:
        async with client(app) as opened:
            return await act(opened)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "kind", [*PICKLES, "text/plain", "", "application/json; charset=latin-1", "multipart/form-data"]
)
@pytest.mark.parametrize("path", PATHS)
def test_nothing_but_json_is_read(client: Any, path: str, kind: str) -> None:
    """No path takes a pickle, or anything else that is no JSON; those that take a body say what they want."""
    response = client.post(path, content=b"\x80\x04K\x01.", headers={"Content-Type": kind} if kind else {})
    status = 415 if path.startswith("/rank") else 404 if path == "/nowhere" else 405
    problem = problem_of(response, status)
    if status == 415:
        assert "Content-Type: application/json" in problem["detail"]


def test_a_compressed_body_is_refused() -> None:
    """What grows when it is unpacked would pass the limit of a body."""
    headers = JSON | {"Content-Encoding": "gzip"}
    problem_of(ask(front(), lambda c: c.post("/rank", content=b"{}", headers=headers)), 415)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
def test_json_is_read_however_it_is_written(kind: str) -> None:
    """Upper and lower case, with the one charset that JSON has."""
    sent = lambda c: c.post(
        "/rank",
        content=httpx.Request("POST", "http://x", json=VALID).content,  # noqa: E731
        headers={"Content-Type": kind},
    )
    assert ask(front(), sent).status_code == 200


@pytest.mark.parametrize("path", ["/order", "/rank/", "/rank/1", "/Rank", "/%00"])
def test_an_unknown_path_is_a_404(client: Any, path: str) -> None:
    """Told as a problem, although BentoML answers it."""
    for method in ("GET", "POST"):
        assert problem_of(client.request(method, path), 404)["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/rank", "/model", "/healthz"])
def test_a_wrong_method_is_a_405_that_names_the_right_one(client: Any, path: str) -> None:
    """Ours and BentoML's alike."""
    response = client.delete(path)
    problem_of(response, 405)
    assert response.headers["allow"] == ("POST" if path == "/rank" else "GET, HEAD") or path == "/healthz"


def test_a_body_that_is_announced_as_too_large_is_not_read() -> None:
    """413 at once."""
    response = ask(front(body_bytes=100), lambda c: c.post("/rank", content=b"x" * 101, headers=JSON))
    assert "larger than 100 bytes" in problem_of(response, 413)["detail"]


@pytest.mark.parametrize(("length", "status"), [("x", 400), ("-1", 400), ("9" * 5000, 413)])
def test_an_impossible_length_is_refused(length: str, status: int) -> None:
    """Whatever server stands before."""
    headers = JSON | {"Content-Length": length}
    problem_of(ask(front(), lambda c: c.post("/rank", content=b"{}", headers=headers)), status)


def test_a_body_of_unknown_length_is_read_up_to_the_limit() -> None:
    """A stream without an end is a 413 after no more than the limit."""
    read = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1000)
            yield b" " * 1000

    response = ask(front(body_bytes=5000), lambda c: c.post("/rank", content=endless(), headers=JSON))
    problem_of(response, 413)
    assert sum(read) <= 7000


def test_a_body_that_does_not_arrive_is_a_408() -> None:
    """After `seconds`, and its place is free again."""

    async def halting() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    app = front(seconds=0.05)
    problem_of(ask(app, lambda c: c.post("/rank", content=halting(), headers=JSON)), 408)
    assert app.api.admission.inside == 0


def test_more_requests_than_are_held_are_told_to_come_back() -> None:
    """At once, while the others are still answered: 429 with Retry-After; none fails otherwise."""
    ranker = Counts(seconds=0.01)

    async def flood(opened: httpx.AsyncClient) -> list[tuple[float, httpx.Response]]:
        started = time.perf_counter()

        async def one() -> tuple[float, httpx.Response]:
            response = await opened.post("/rank", json=VALID)
            return time.perf_counter() - started, response

        return await asyncio.gather(*(one() for _ in range(20)))

    answers = ask(front(ranker, concurrent=5), flood)
    refused = [(seconds, response) for seconds, response in answers if response.status_code == 429]
    answered = [seconds for seconds, response in answers if response.status_code == 200]
    assert (len(answered), len(refused), ranker.ranked) == (5, 15, 5)
    assert all(problem_of(response, 429) and int(response.headers["retry-after"]) > 0 for _, response in refused)
    assert max(seconds for seconds, _ in refused) < max(answered)


def test_who_waits_too_long_is_told_so() -> None:
    """503 with Retry-After instead of an answer that nobody waits for any more."""
    app = front(Counts(seconds=0.05), seconds=0.08)
    answers = ask(app, lambda c: asyncio.gather(*(c.post("/rank", json=VALID) for _ in range(6))))
    statuses = sorted(response.status_code for response in answers)
    assert set(statuses) == {200, 503}
    assert all(response.headers.get("retry-after") for response in answers if response.status_code == 503)


def test_a_batch_does_not_keep_others_waiting() -> None:
    """A single request that comes after a batch of ten is answered after one of them, not after all."""
    done = []

    async def both(opened: httpx.AsyncClient) -> None:
        async def post(name: str, path: str, body: Any) -> None:
            assert (await opened.post(path, json=body)).status_code == 200
            done.append(name)

        await asyncio.gather(post("batch", "/rank_batch", [VALID] * 10), post("single", "/rank", VALID))

    ask(front(Counts(seconds=0.01)), both)
    assert done == ["single", "batch"]


def test_a_connection_is_not_for_ever() -> None:
    """Now and then an answer ends its connection: else the worker that took all of them at the start keeps them."""

    async def send(opened: httpx.AsyncClient) -> list[str | None]:
        return [(await opened.post("/rank", json=VALID)).headers.get("connection") for _ in range(2 * ENDS)]

    ended = [number for number, header in enumerate(ask(front(), send), start=1) if header == "close"]
    assert ended == [ENDS, 2 * ENDS]


def test_a_server_ends_the_connection_that_an_answer_ends() -> None:
    """On a socket: of ENDS + 1 answers, the last comes on a second connection, and none is lost."""
    app, ports = front(), []

    async def seen(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            ports.append(scope["client"][1])
        await app(scope, receive, send)

    async def run() -> list[int]:
        config = uvicorn.Config(seen, port=0, lifespan="off", log_level="error")
        server, listening = uvicorn.Server(config), config.bind_socket()
        serving = asyncio.create_task(server.serve([listening]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as opened:
            while not server.started:
                await asyncio.sleep(0.01)
            statuses = [(await opened.post("/rank", json=VALID)).status_code for _ in range(ENDS + 1)]
        server.should_exit = True
        await serving
        return statuses

    assert asyncio.run(run()) == [200] * (ENDS + 1)
    assert len(set(ports[:-1])) == 1
    assert ports[-1] != ports[0]


def test_a_fault_of_ours_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the cause, under the number that the answer names."""
    response = ask(front(Breaks()), lambda c: c.post("/rank", json=VALID))
    problem = problem_of(response, 500)
    assert "secret" not in response.text
    assert problem["instance"] in caplog.text
    assert "the secret of the house" in caplog.text


def test_nothing_is_answered_before_a_model_is_read_and_after_the_end() -> None:
    """503 with Retry-After, on every path of ours."""
    app = front()
    app.api.close()
    for path in ("/rank", "/rank_batch"):
        assert ask(app, lambda c, path=path: c.post(path, json=VALID)).headers["retry-after"]
    for path in ("/model", "/docs.json", "/metrics"):
        problem_of(ask(app, lambda c, path=path: c.get(path)), 503)


def test_with_a_key_only_who_has_it_is_answered() -> None:
    """401 that says how to send it; probes stay open, and so does nothing else."""
    app = front(key="correct-horse-battery")
    sent = {"Authorization": "Bearer correct-horse-battery"}
    assert ask(app, lambda c: c.post("/rank", json=VALID, headers=sent)).status_code == 200
    for given in ("", "Bearer", "Bearer wrong", "Basic correct-horse-battery", "Bearer correct-horse-battery!", "\xff"):
        headers = {"Authorization": given.encode("latin-1")} if given else {}
        for path in ("/rank", "/rank_batch", "/model", "/metrics", "/docs.json", "/nowhere"):
            response = ask(app, lambda c, path=path, headers=headers: c.post(path, json=VALID, headers=headers))
            problem_of(response, 401)
            assert response.headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/livez", "/readyz"):
        assert ask(app, lambda c, path=path: c.get(path)).status_code == 404, "behind it lies nothing, but it is open"


def test_an_array_in_pieces_is_answered_as_well() -> None:
    """A column of a matrix does not lie in one piece."""

    class Strided(Counts):
        def rank(self, request: RankRequest) -> Ranked:
            ranked = super().rank(request)
            columns = np.arange(2.0 * len(ranked.items)).reshape(-1, 2)
            return dataclasses.replace(ranked, probabilities={"click": columns[:, 1]})

    answer = ask(front(Strided()), lambda c: c.post("/rank", json=VALID)).json()
    assert answer["probabilities"] == {"click": [1.0, 3.0, 5.0]}
