"""The API methods of the service: BentoML's clients, `bentoml.depends` and /schema.json see what HTTP clients see."""

import asyncio
import json
import pickle
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import bentoml
import pytest
import uvicorn
from bentoml.exceptions import BentoMLException

from serving.http.descriptors import UNSET, rank_arguments
from serving.http.middleware import PICKLE, ApiMiddleware
from serving.service import RankingService, api
from tests.support.serving import ACCEPTED
from tests.support.waiting import wait_until

ITEMS = list(range(9))
VALID = {"user_id": 1, "scenario": "search", "candidates": ITEMS}
ANSWERED = [
    VALID,
    VALID | {"candidates": "all", "k": 3, "explain": True},
    VALID | {"user_id": 1000, "candidates": [2000, 3], "objective": {"click": 1, "order": 0}},
    VALID | {"exclude": [0, 1], "diversify": {"by": "tags", "most": 1, "first": 3}},
    VALID | {"filters": {"price": {"min": 1}}, "context": {"hour": None}, "overrides": {"user": {"city": "x"}}},
]
REFUSED = [
    VALID | {"scenario": "home"},
    VALID | {"filters": {"prise": {"min": 1}}},
    VALID | {"candidates": ["1"]},
    VALID | {"k": 0, "user_id": None},
    VALID | {"objective": {"click": float("nan"), "order": 1}},
]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def address(client: Any) -> Iterator[str]:
    """The address of the service in this process."""
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def ranking(address: str) -> Iterator[Any]:
    """A client of BentoML."""
    with bentoml.SyncHTTPClient(address) as opened:
        yield opened
    opened._temp_dir.cleanup()  # BentoML leaves its folder to the garbage collector, with a warning


@pytest.fixture(scope="module")
def service(client: Any) -> Any:
    """The instance of the service whose routes `client` calls."""
    return bentoml.get_current_service()


def problem_text(error: BentoMLException) -> dict[str, Any]:
    """The problem that an exception of a call carries."""
    problem: dict[str, Any] = json.loads(str(error))
    return problem


@pytest.mark.parametrize("request_", ANSWERED, ids=str)
def test_a_client_gets_the_document_of_post_rank(client: Any, ranking: Any, request_: dict[str, Any]) -> None:
    """`SyncHTTPClient.rank` takes the fields as keyword arguments and returns the same document."""
    assert ranking.rank(**request_) == client.post("/rank", json=request_).json()


def test_a_client_ranks_a_batch_and_describes_the_model(client: Any, ranking: Any) -> None:
    """The requests of a batch are one list; `model` has no arguments."""
    assert ranking.rank_batch(ANSWERED) == client.post("/rank_batch", json=ANSWERED).json()
    assert ranking.model() == client.get("/model").json() == client.post("/model", json={}).json()


def test_an_asynchronous_client_does_the_same(client: Any, address: str) -> None:
    """`AsyncHTTPClient`, in an event loop."""

    async def answers() -> tuple[Any, Any, Any]:
        async with bentoml.AsyncHTTPClient(address) as ranking:
            given = await ranking.rank(**VALID), await ranking.rank_batch([VALID]), await ranking.model()
        ranking._temp_dir.cleanup()
        return given

    one = client.post("/rank", json=VALID).json()
    assert asyncio.run(answers()) == (one, [one], client.get("/model").json())


def test_a_service_that_depends_on_an_address_does_the_same(client: Any, address: str) -> None:
    """`bentoml.depends(RankingService, url=...)` sends what it is given, and gets the document."""

    async def answers() -> tuple[Any, Any, Any]:
        ranking = await bentoml.depends(RankingService, url=address).get().__aenter__()  # as BentoML does at the start
        given = await ranking.rank(**VALID), await ranking.rank_batch([VALID]), await ranking.model()
        await ranking.close()
        return given

    one = client.post("/rank", json=VALID).json()
    assert asyncio.run(answers()) == (one, [one], client.get("/model").json())


@pytest.mark.parametrize("request_", REFUSED, ids=str)
def test_a_client_raises_the_problem(client: Any, ranking: Any, request_: dict[str, Any]) -> None:
    """With its status, and the broken rules as JSON; no field is dropped on the way."""
    refused = client.post("/rank", content=json.dumps(request_), headers={"Content-Type": "application/json"})
    with pytest.raises(BentoMLException) as error:
        ranking.rank(**request_)
    assert error.value.error_code == refused.status_code == 422
    assert problem_text(error.value) == refused.json()


def test_a_client_knows_the_arguments(ranking: Any) -> None:
    """A missing one and an unknown one are errors before anything is sent."""
    with pytest.raises(TypeError, match=r"Missing required arguments in endpoint rank: {'candidates'}"):
        ranking.rank(user_id=1, scenario="search")
    with pytest.raises(TypeError, match=r"Arguments not found in endpoint rank: {'items'}"):
        ranking.rank(**VALID, items=[1])


def test_the_schema_describes_the_requests_of_the_model(client: Any) -> None:
    """/schema.json has the scenarios, what is required, and the answer."""
    routes = {route["name"]: route for route in client.get("/schema.json").json()["routes"]}
    assert {name: route["route"] for name, route in routes.items()} == {
        "rank": "/rank",
        "rank_batch": "/rank_batch",
        "model": "/model",
    }
    arguments = routes["rank"]["input"]
    assert arguments["required"] == ["user_id", "scenario", "candidates"]
    assert arguments["properties"]["scenario"]["enum"] == ["feed", "search", "channel"]
    assert "probabilities" in routes["rank"]["output"]["$defs"]["RankingResponse"]["properties"]
    assert routes["rank_batch"]["input"]["maxItems"] == 32


@pytest.mark.parametrize("request_", ANSWERED, ids=str)
def test_a_call_in_the_process_gives_the_same_document(client: Any, service: Any, request_: dict[str, Any]) -> None:
    """The method itself, which a service that depends on this one calls, answers as POST /rank does."""
    answer = client.post("/rank", json=request_).json()
    assert client.portal.call(lambda: service.rank.local(**request_)) == answer
    assert client.portal.call(lambda: service.rank_batch.local([request_])) == [answer]


@pytest.mark.parametrize("request_", [*REFUSED, {}, VALID | {"top": 1}, VALID | {"user_id": 10**30}], ids=str)
def test_a_call_in_the_process_raises_the_same_problem(client: Any, service: Any, request_: dict[str, Any]) -> None:
    """Status and broken rules are those of POST /rank."""
    refused = client.post("/rank", content=json.dumps(request_), headers={"Content-Type": "application/json"})
    with pytest.raises(BentoMLException) as error:
        client.portal.call(lambda: service.rank.local(**request_))
    assert error.value.error_code == refused.status_code == 422
    assert problem_text(error.value) == refused.json()


@pytest.fixture
def dependency(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service as it is in the process of a dependency, where BentoML answers what another service pickles."""
    layer = client.app.middleware_stack
    while not isinstance(layer, ApiMiddleware):
        layer = layer.app
    monkeypatch.setattr(layer, "_dependency", True)
    (endpoint,) = (route.endpoint for route in client.app.routes if route.path == "/rank")
    monkeypatch.setattr(endpoint.func.__self__, "is_main", False)


def pickled(client: Any, request: Any) -> Any:
    """The response to what a service sends to one that it depends on, which the middleware does not answer."""
    content, headers = pickle.dumps(request, protocol=5), {"Content-Type": PICKLE}
    return client.post("/rank", content=content, headers=headers)


@pytest.mark.parametrize("request_", ANSWERED, ids=str)
def test_a_dependent_service_gets_the_same_document(client: Any, dependency: None, request_: dict[str, Any]) -> None:
    """`bentoml.depends` sends pickles from process to process; the answer is the document of POST /rank."""
    answer = pickled(client, request_)
    assert answer.status_code == 200, answer.text
    assert pickle.loads(answer.content) == client.post("/rank", json=request_).json()


@pytest.mark.parametrize("request_", REFUSED, ids=str)
def test_a_dependent_service_gets_the_same_problem(
    client: Any,
    dependency: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request_: dict[str, Any],
) -> None:
    """Whole, and without a traceback in the log; it is counted like that of POST /rank."""
    counted: list[Any] = []
    monkeypatch.setattr(api.metrics, "answered", lambda path, status, _: counted.append((path, status)))
    refused = client.post("/rank", content=json.dumps(request_), headers={"Content-Type": "application/json"})
    answer = pickled(client, request_)
    assert (answer.status_code, answer.json()) == (422, refused.json())
    assert counted == [("/rank", 422)] * 2
    assert not caplog.records


def test_a_call_counts_as_a_request_in_flight(client: Any, service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the worker holds as many requests as it may, and where the arguments are too large, a call is refused."""
    admission = api.admission
    monkeypatch.setattr(admission, "in_flight", admission.limits.concurrent)
    with pytest.raises(BentoMLException) as error:
        client.portal.call(lambda: service.rank.local(**VALID))
    assert error.value.error_code == HTTPStatus.TOO_MANY_REQUESTS
    monkeypatch.undo()
    with pytest.raises(BentoMLException) as error:
        client.portal.call(lambda: service.rank.local(**VALID | {"user_id": "x" * admission.limits.body_bytes}))
    assert error.value.error_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert (admission.in_flight, admission.held) == (0, 0)


def test_arguments_that_are_no_json_are_refused(client: Any, service: Any) -> None:
    """Such as an object of a class, and text that is not Unicode."""
    for value in (object(), "\ud800"):
        with pytest.raises(BentoMLException) as error:
            client.portal.call(lambda value=value: service.rank.local(**VALID | {"user_id": value}))
        assert error.value.error_code == HTTPStatus.BAD_REQUEST


def test_what_a_client_does_not_give_is_not_sent() -> None:
    """So that the defaults of the service hold; a null is sent."""
    given = rank_arguments(ACCEPTED).from_inputs(1, "search", candidates=[1], k=None)
    assert json.loads(given.model_dump_json()) == {"user_id": 1, "scenario": "search", "candidates": [1], "k": None}
    assert given.explain is UNSET
