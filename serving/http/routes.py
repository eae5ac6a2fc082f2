"""The routes of the service: POST /rank, /rank_batch, /events and /model, GET /model, /metrics, /docs.json and /."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Protocol

import orjson
import pydantic
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from typing_extensions import TypedDict

from common.serve_params import Serve
from serving.http.event_intake import EventIntake
from serving.http.limits import CLOSE, RETRY_AFTER, AdmissionControl
from serving.http.openapi import INDEX, describe
from serving.http.problem_details import ProblemError, validation_problem
from serving.http.response import ranking_json
from serving.ranking.request import RankRequest, batch_type
from serving.ranking.request_values import STRICT
from serving.ranking.result import RankingResult
from serving.telemetry.prometheus import ServiceMetrics
from serving.telemetry.tracing import Tracing

JSON = "application/json"
CLOSE_EVERY = 64  # answers of a worker: the connection of each such one ends, and the next goes to a free worker

NO_ARGUMENTS = TypeAdapter(pydantic.with_config(STRICT)(TypedDict("NoArguments", {})))  # type: ignore[operator]

Endpoint = Callable[[Request], Awaitable[Response]]


class SupportsRank(Protocol):
    """What the routes need of a ranker."""

    def rank(self, request: RankRequest) -> RankingResult:
        """The result of one request."""
        ...


class RankingApi:
    """Answers requests between `open` and `close`; the request type comes with the model.

    After `stop`, requests that come are refused and those in flight are answered; each answer ends its connection.
    """

    def __init__(self) -> None:
        self.routes = [
            Route("/rank", self._post(self._rank), methods=["POST"]),
            Route("/rank_batch", self._post(self._rank_batch), methods=["POST"]),
            Route("/events", self._post(self._events), methods=["POST"]),
            Route(
                "/model", self._by_method(self._get(self._model), self._post(self._post_model)), methods=["GET", "POST"]
            ),
            Route("/metrics", self._get(self._metrics)),
            Route("/docs.json", self._get(self._openapi)),
            Route("/", self._get(self._index)),
        ]
        self.paths = frozenset(route.path for route in self.routes)
        self._methods = {"rank": self._rank, "rank_batch": self._rank_batch, "model": self._post_model}
        self._answers = itertools.count(1)
        self.close()

    def open(
        self,
        ranker: SupportsRank,
        accepted: type[RankRequest],
        settings: Serve,
        *,
        model_info: Callable[[], dict[str, Any]],
        key: str | None = None,
        metrics: ServiceMetrics | None = None,
        tracing: Tracing | None = None,
        events: EventIntake | None = None,
    ) -> None:
        """Answer requests from now on.

        Args:
            ranker: ranks the requests.
            accepted: the type of the requests, made from the schema of the model.
            settings: the section `serve` of the parameters.
            model_info: makes the answer of GET /model.
            key: the API key that every request but the probes needs; None: no key.
            metrics: counts the responses, and is the answer of GET /metrics; None: 404 there.
            tracing: joins requests to the traces of their callers; None: it does not.
            events: takes the bodies of POST /events; None: 404 there.
        """
        self.ranker, self.model_info = ranker, model_info
        self.one, self.many = TypeAdapter(accepted), TypeAdapter(batch_type(accepted, settings))
        described = None if events is None else events.accepted
        self.page = orjson.dumps(describe(accepted, settings, secured=key is not None, events=described))
        self.admission, self.key = AdmissionControl(settings.limits), key.encode() if key else None
        self.metrics, self.tracing, self.events = metrics, tracing, events
        self.ready, self.stopping = True, False

    def stop(self) -> None:
        """Refuse every request that comes from now on, with 503; those in flight are answered."""
        self.stopping = True

    @property
    def in_flight(self) -> int:
        """Requests that are being answered or wait."""
        return self.admission.in_flight if self.ready else 0

    def close(self) -> None:
        """Answer every request with 503 from now on."""
        self.ready, self.key, self.metrics, self.tracing, self.events = False, None, None, None, None
        self.stopping = False

    def _get(self, answer: Callable[[], Awaitable[Response]]) -> Endpoint:
        async def endpoint(_: Request) -> Response:
            self._check_ready()
            return self._close_some_connections(await answer())

        return endpoint

    def _post(self, answer: Callable[[bytes], Awaitable[Response]]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            self._check_ready()
            with self.admission.admit(), self._trace_of(request):
                async with self.admission.body(request) as body:
                    response = await answer(body)
            return self._close_some_connections(response)

        return endpoint

    @staticmethod
    def _by_method(get: Endpoint, post: Endpoint) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            return await (post if request.method == "POST" else get)(request)

        return endpoint

    async def answer(self, method: str, body: bytes) -> bytes:
        """The body of the answer to POST /`method` with `body`, without HTTP; raises ProblemError where it has none."""
        self._check_ready()
        with self.admission.admit(), self.admission.hold(body):
            return bytes((await self._methods[method](body)).body)

    def _check_ready(self) -> None:
        self.check_running()
        if not self.ready:
            detail = "the service is starting or stopping: try again"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)

    def check_running(self) -> None:
        """Raise ProblemError (503) after `stop`."""
        if self.stopping:
            detail = "the service is stopping: send the request to another one, or again when it has started"
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER | CLOSE)

    def _trace_of(self, request: Request) -> contextlib.AbstractContextManager[None]:
        return self.tracing.joined(request.headers) if self.tracing else contextlib.nullcontext()

    def _close_some_connections(self, response: Response) -> Response:
        """Without this, the worker that accepted all connections at the start would keep them."""
        if self.stopping or next(self._answers) % CLOSE_EVERY == 0:
            response.headers["connection"] = "close"
        return response

    async def _rank(self, body: bytes) -> Response:
        request = _validate(self.one, body).of_size(len(body))
        result, answer = await self._take_turn(request, asyncio.get_running_loop().time())
        return Response(answer, headers={"server-timing": _server_timing(result)}, media_type=JSON)

    async def _rank_batch(self, body: bytes) -> Response:
        requests, since = _validate(self.many, body), asyncio.get_running_loop().time()
        answers = [(await self._take_turn(request.of_size(len(body)), since))[1] for request in requests]
        return Response(b"[" + b",".join(answers) + b"]", media_type=JSON)

    async def _events(self, body: bytes) -> Response:
        """Events wait for the disk in threads of their own, so that rankings and metrics go on meanwhile."""
        if self.events is None:
            detail = "the model reads no session features, so no events are taken: see aggregate.session.events"
            raise ProblemError(HTTPStatus.NOT_FOUND, detail)
        with self.admission.wait_for_queue():
            taken = await asyncio.get_running_loop().run_in_executor(self.events.threads, self.events.take, body)
        if self.metrics is not None:
            self.metrics.received(taken.accepted, taken.duplicates)
        return Response(orjson.dumps(taken.model_dump()), media_type=JSON)

    async def _take_turn(self, request: RankRequest, since: float) -> tuple[RankingResult, bytes]:
        """One ranking and its JSON; each ranking of a batch waits for a turn, so that it does not delay others."""
        async with self.admission.turn(since):
            result = self.ranker.rank(request)
            return result, ranking_json(result)

    async def _model(self) -> Response:
        return Response(orjson.dumps(self.model_info()), media_type=JSON)

    async def _post_model(self, body: bytes) -> Response:
        _validate(NO_ARGUMENTS, body)
        return await self._model()

    async def _metrics(self) -> Response:
        if self.metrics is None:
            raise ProblemError(HTTPStatus.NOT_FOUND, "this service is not measured")
        return Response(await asyncio.to_thread(self.metrics.page), media_type=self.metrics.content_type)

    async def _openapi(self) -> Response:
        return Response(self.page, media_type=JSON)

    async def _index(self) -> Response:
        return HTMLResponse(INDEX)


def _validate(adapter: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return adapter.validate_json(body)
    except pydantic.ValidationError as error:
        raise validation_problem(error) from None


def _server_timing(result: RankingResult) -> str:
    """The seconds by phase, for `curl -i` and the developer tools of browsers."""
    return ", ".join(f"{phase};dur={1000 * seconds:.2f}" for phase, seconds in result.seconds.items())
