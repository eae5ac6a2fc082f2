"""The paths of the service and what answers them, once a model is read: POST /rank, POST /rank_batch, GET /model."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

import orjson
import pydantic
from pydantic import TypeAdapter

from common.params import Serve
from serving.http.limits import LATER, Admission
from serving.http.openapi import INDEX, describe
from serving.http.problem_details import Refused, refusal_of
from serving.http.response import answer_of
from serving.ranking.request import RankRequest, batch_type
from serving.ranking.result import Ranked
from serving.telemetry.prometheus import Metrics
from serving.telemetry.tracing import Tracing

JSON = "application/json"


class Ranks(Protocol):
    """What the API needs of a ranker."""

    def rank(self, request: RankRequest) -> Ranked:
        """The answer to one request."""
        ...


@dataclass(frozen=True)
class Answer:
    """What is sent."""

    body: bytes
    kind: str = JSON
    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route:
    """How a path is answered; a POST by the body, anything else by nothing (b"")."""

    method: str
    answer: Callable[[bytes], Awaitable[Answer]]


class API:
    """Answers nothing before `open`, and nothing after `close`: what it accepts comes with a model."""

    def __init__(self) -> None:
        self.close()

    def open(
        self,
        ranker: Ranks,
        accepted: type[RankRequest],
        settings: Serve,
        *,
        model: Callable[[], dict[str, Any]],
        key: str | None = None,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Let `ranker` answer requests of the type `accepted`; `model` says what GET /model tells; `key` opens."""
        self.ranker, self.model = ranker, model
        self.one, self.many = TypeAdapter(accepted), TypeAdapter(batch_type(accepted, settings))
        self.page = orjson.dumps(describe(accepted, settings, secured=key is not None))
        self.admission, self.key = Admission(settings.limits), key.encode() if key else None
        self.metrics, self.tracing = metrics, tracing
        self.ready = True

    def close(self) -> None:
        """Answer nothing more."""
        self.ready, self.key, self.metrics, self.tracing = False, None, None, None
        self.routes = {
            "/rank": Route("POST", self._rank),
            "/rank_batch": Route("POST", self._rank_batch),
            "/model": Route("GET", self._model),
            "/metrics": Route("GET", self._measured),
            "/docs.json": Route("GET", self._described),
            "/": Route("GET", self._index),
        }

    def check_ready(self) -> None:
        """Raises Refused (503) before a model is read."""
        if not self.ready:
            told = "the service is starting or stopping: try again"
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, told, headers=LATER)

    async def _rank(self, body: bytes) -> Answer:
        request = _valid(self.one, body)
        ranked, answer = await self._ranked(request, asyncio.get_running_loop().time())
        return Answer(answer, headers={"Server-Timing": _timing(ranked)})

    async def _rank_batch(self, body: bytes) -> Answer:
        requests, since = _valid(self.many, body), asyncio.get_running_loop().time()
        return Answer(b"[" + b",".join([(await self._ranked(request, since))[1] for request in requests]) + b"]")

    async def _ranked(self, request: RankRequest, since: float) -> tuple[Ranked, bytes]:
        """One ranking and its JSON, in a turn of its own, so that a batch does not keep others waiting."""
        async with self.admission.turn(since):
            ranked = self.ranker.rank(request)
            answer = answer_of(ranked)
        if self.metrics:
            self.metrics.ranked(request.scenario, ranked)
        if self.tracing:
            self.tracing.ranked(request.scenario, ranked)
        return ranked, answer

    async def _model(self, _: bytes) -> Answer:
        return Answer(orjson.dumps(self.model()))

    async def _described(self, _: bytes) -> Answer:
        return Answer(self.page)

    async def _index(self, _: bytes) -> Answer:
        return Answer(INDEX.encode(), "text/html; charset=utf-8")

    async def _measured(self, _: bytes) -> Answer:
        if self.metrics is None:
            raise Refused(HTTPStatus.NOT_FOUND, "this service is not measured")
        return Answer(await asyncio.to_thread(self.metrics.page), self.metrics.kind)


def _valid(kind: TypeAdapter[Any], body: bytes) -> Any:
    try:
        return kind.validate_json(body)
    except pydantic.ValidationError as error:
        raise refusal_of(error) from None


def _timing(ranked: Ranked) -> str:
    """The phases for a person who looks with `curl -i`, or with the tools of a browser."""
    return ", ".join(f"{phase};dur={1000 * seconds:.2f}" for phase, seconds in ranked.seconds.items())
