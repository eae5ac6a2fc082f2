"""The HTTP layer: media types, limits, the API key, and problem details for every refusal."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn

from serving.http.routes import CLOSE_EVERY
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult
from tests.support.serving import VALID, StubRanker, api_in_front_of, call, problem_of

JSON = {"Content-Type": "application/json"}
PICKLES = [
    "application/vnd.bentoml+pickle",
    "application/vnd.bentoml.stream_outputs",
    "application/pickle",
    "application/octet-stream",
    "application/x-pickle",
    "application/vnd.bentoml+multipart",
    "application/parquet",
]  # the media types other than JSON that BentoML reads
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
pytestmark = pytest.mark.integration


class BrokenRanker(StubRanker):
    """A ranker that raises."""

    def rank(self, request: RankRequest) -> RankingResult:
        """Raise an error with a text that no response may contain."""
        raise RuntimeError("the secret of the house")


@pytest.mark.parametrize(
    "media_type", [*PICKLES, "text/plain", "", "application/json; charset=latin-1", "multipart/form-data"]
)
@pytest.mark.parametrize("path", PATHS)
def test_no_path_reads_anything_but_json(client: Any, path: str, media_type: str) -> None:
    """A path with a body refuses every other media type with 415 and names JSON; the other paths refuse the method."""
    response = client.post(path, content=b"\x80\x04K\x01.", headers={"Content-Type": media_type} if media_type else {})
    status = 415 if path.startswith(("/rank", "/model")) else 404 if path == "/nowhere" else 405
    problem = problem_of(response, status)
    if status == 415:
        assert "Content-Type: application/json" in problem["detail"]


def test_a_compressed_body_is_refused() -> None:
    """A body that grows when it is decompressed could exceed the size limit, so it is a 415."""
    headers = JSON | {"Content-Encoding": "gzip"}
    problem_of(call(api_in_front_of(), lambda c: c.post("/rank", content=b"{}", headers=headers)), 415)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"])
def test_every_spelling_of_the_json_media_type_is_accepted(media_type: str) -> None:
    """Upper and lower case, with the charset UTF-8 or without one."""
    body = httpx.Request("POST", "http://x", json=VALID).content
    headers = {"Content-Type": media_type}
    assert call(api_in_front_of(), lambda c: c.post("/rank", content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/order", "/rank/", "/rank/1", "/Rank", "/%00"])
def test_an_unknown_path_is_a_404(client: Any, path: str) -> None:
    """BentoML's 404 becomes a problem, for every method."""
    for method in ("GET", "POST"):
        assert problem_of(client.request(method, path), 404)["title"] == "Not Found"


@pytest.mark.parametrize("path", ["/rank", "/model", "/healthz"])
def test_a_wrong_method_is_a_405_that_names_the_allowed_ones(client: Any, path: str) -> None:
    """The header Allow lists the methods of the service's paths; BentoML's 405 is a problem, too."""
    response = client.delete(path)
    problem_of(response, 405)
    allowed = {"/rank": "POST", "/model": "GET, HEAD, POST", "/healthz": response.headers["allow"]}
    assert response.headers["allow"] == allowed[path]


def test_a_405_says_which_method_is_answered() -> None:
    """The detail names the method of the request and the one to use; without BentoML, too."""
    app = api_in_front_of()
    wrong = call(app, lambda c: c.get("/rank"))
    assert problem_of(wrong, 405)["detail"] == "GET is not answered here, but POST is"
    assert problem_of(call(app, lambda c: c.put("/model")), 405)["detail"] == "PUT is not answered here, but GET is"


def test_head_is_answered_where_get_is() -> None:
    """The status and headers are those of GET."""
    app = api_in_front_of()
    head, get = (call(app, lambda c, method=method: c.request(method, "/docs.json")) for method in ("HEAD", "GET"))
    assert (head.status_code, head.headers["content-length"]) == (200, get.headers["content-length"])


def test_a_body_that_is_announced_as_too_large_is_not_read() -> None:
    """A Content-Length above the limit is a 413 at once."""
    response = call(api_in_front_of(body_bytes=100), lambda c: c.post("/rank", content=b"x" * 101, headers=JSON))
    assert "larger than 100 bytes" in problem_of(response, 413)["detail"]


@pytest.mark.parametrize(("length", "status"), [("x", 400), ("-1", 400), ("9" * 5000, 413), ("\xb2", 400)])
def test_an_impossible_content_length_is_refused(length: str, status: int) -> None:
    """The middleware does not rely on the server in front of it."""
    headers = JSON | {"Content-Length": length.encode("latin-1")}
    problem_of(call(api_in_front_of(), lambda c: c.post("/rank", content=b"{}", headers=headers)), status)


def test_a_body_of_unknown_length_is_read_up_to_the_limit() -> None:
    """An endless stream is a 413 after little more than the limit."""
    read = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            read.append(1000)
            yield b" " * 1000

    app = api_in_front_of(body_bytes=5000)
    problem_of(call(app, lambda c: c.post("/rank", content=endless(), headers=JSON)), 413)
    assert sum(read) <= 7000


def test_a_body_that_does_not_arrive_is_a_408() -> None:
    """After `seconds` the request is refused, and is in flight no longer."""

    async def halting() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    app = api_in_front_of(seconds=0.05)
    problem_of(call(app, lambda c: c.post("/rank", content=halting(), headers=JSON)), 408)
    assert app.api.admission.in_flight == 0


def test_a_client_that_disconnects_gets_no_response() -> None:
    """A disconnect before the body is complete ends the request: nothing is sent, and it is in flight no longer."""
    app, sent = api_in_front_of(), []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/rank",
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent == []
    assert app.api.admission.in_flight == 0


def test_requests_beyond_the_limit_are_refused_while_the_others_are_answered() -> None:
    """Of 20 concurrent requests at a limit of 5, 15 are a 429 with Retry-After, before the last answer."""
    ranker = StubRanker(seconds=0.01)

    async def flood(client: httpx.AsyncClient) -> list[tuple[float, httpx.Response]]:
        started = time.perf_counter()

        async def one() -> tuple[float, httpx.Response]:
            response = await client.post("/rank", json=VALID)
            return time.perf_counter() - started, response

        return await asyncio.gather(*(one() for _ in range(20)))

    responses = call(api_in_front_of(ranker, concurrent=5), flood)
    refused = [(seconds, response) for seconds, response in responses if response.status_code == 429]
    answered = [seconds for seconds, response in responses if response.status_code == 200]
    assert (len(answered), len(refused), ranker.ranked) == (5, 15, 5)
    assert all(problem_of(response, 429) and int(response.headers["retry-after"]) > 0 for _, response in refused)
    assert max(seconds for seconds, _ in refused) < max(answered)


def test_a_request_that_waits_too_long_is_a_503() -> None:
    """It has Retry-After, and the ranker does not work for a client that has given up."""
    app = api_in_front_of(StubRanker(seconds=0.05), seconds=0.08)
    responses = call(app, lambda c: asyncio.gather(*(c.post("/rank", json=VALID) for _ in range(6))))
    assert {response.status_code for response in responses} == {200, 503}
    assert all(response.headers.get("retry-after") for response in responses if response.status_code == 503)


def test_a_batch_does_not_delay_other_requests() -> None:
    """A single request that comes after a batch of ten is answered after one of its rankings, not after all."""
    done = []

    async def both(client: httpx.AsyncClient) -> None:
        async def post(name: str, path: str, body: Any) -> None:
            assert (await client.post(path, json=body)).status_code == 200
            done.append(name)

        await asyncio.gather(post("batch", "/rank_batch", [VALID] * 10), post("single", "/rank", VALID))

    call(api_in_front_of(StubRanker(seconds=0.01)), both)
    assert done == ["single", "batch"]


def test_every_64th_answer_closes_its_connection() -> None:
    """Otherwise the worker that accepted all connections at the start would keep them."""

    async def send(client: httpx.AsyncClient) -> list[str | None]:
        return [(await client.post("/rank", json=VALID)).headers.get("connection") for _ in range(2 * CLOSE_EVERY)]

    closing = [number for number, header in enumerate(call(api_in_front_of(), send), start=1) if header == "close"]
    assert closing == [CLOSE_EVERY, 2 * CLOSE_EVERY] == [64, 128]


def test_a_server_ends_the_connection_that_an_answer_closes() -> None:
    """On a socket, one more answer than that comes on a second connection, and none is lost."""
    app, ports = api_in_front_of(), []

    async def noting_ports(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            ports.append(scope["client"][1])
        await app(scope, receive, send)

    async def run() -> list[int]:
        config = uvicorn.Config(noting_ports, port=0, lifespan="off", log_level="error")
        server, listening = uvicorn.Server(config), config.bind_socket()
        serving = asyncio.create_task(server.serve([listening]))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            while not server.started:
                await asyncio.sleep(0.01)
            statuses = [(await client.post("/rank", json=VALID)).status_code for _ in range(CLOSE_EVERY + 1)]
        server.should_exit = True
        await serving
        return statuses

    assert asyncio.run(run()) == [200] * (CLOSE_EVERY + 1)
    assert len(set(ports[:-1])) == 1
    assert ports[-1] != ports[0]


def test_an_unexpected_error_is_a_500_that_discloses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the cause, under the id that the response names."""
    response = call(api_in_front_of(BrokenRanker()), lambda c: c.post("/rank", json=VALID))
    problem = problem_of(response, 500)
    assert "secret" not in response.text
    assert problem["instance"] in caplog.text
    assert "the secret of the house" in caplog.text


def test_no_request_is_answered_before_a_model_is_loaded_or_after_the_end() -> None:
    """Every path of the service is a 503 with Retry-After."""
    app = api_in_front_of()
    app.api.close()
    for path in ("/rank", "/rank_batch"):
        assert call(app, lambda c, path=path: c.post(path, json=VALID)).headers["retry-after"]
    for path in ("/model", "/docs.json", "/metrics"):
        problem_of(call(app, lambda c, path=path: c.get(path)), 503)


def test_with_an_api_key_only_requests_that_bring_it_are_answered() -> None:
    """Others are a 401 that says how to send it; the probes alone need no key."""
    app = api_in_front_of(key="correct-horse-battery")
    right = {"Authorization": "Bearer correct-horse-battery"}
    assert call(app, lambda c: c.post("/rank", json=VALID, headers=right)).status_code == 200
    for given in ("", "Bearer", "Bearer wrong", "Basic correct-horse-battery", "Bearer correct-horse-battery!", "\xff"):
        headers = {"Authorization": given.encode("latin-1")} if given else {}
        for path in ("/rank", "/rank_batch", "/model", "/metrics", "/docs.json", "/nowhere"):
            response = call(app, lambda c, path=path, headers=headers: c.post(path, json=VALID, headers=headers))
            problem_of(response, 401)
            assert response.headers["www-authenticate"].startswith("Bearer")
    for path in ("/healthz", "/livez", "/readyz"):
        assert call(app, lambda c, path=path: c.get(path)).status_code == 404, "no application behind, but no 401"


def test_an_array_that_is_not_contiguous_is_answered() -> None:
    """A column of a matrix becomes JSON like any other array."""

    class StridedRanker(StubRanker):
        def rank(self, request: RankRequest) -> RankingResult:
            result = super().rank(request)
            columns = np.arange(2.0 * len(result.items)).reshape(-1, 2)
            return dataclasses.replace(result, probabilities={"click": columns[:, 1]})

    answer = call(api_in_front_of(StridedRanker()), lambda c: c.post("/rank", json=VALID)).json()
    assert answer["probabilities"] == {"click": [1.0, 3.0, 5.0]}
