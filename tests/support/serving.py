"""The HTTP layer in front of a stub ranker, in this process, and what its tests check responses with."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from common import params
from common.paths import PARAMS, ROOT
from serving.http.middleware import ApiMiddleware
from serving.http.routes import RankingApi
from serving.ranking.request import RankRequest, example_request, request_type
from serving.ranking.result import RankingResult
from tests.support import world

SERVE = params.load(ROOT / PARAMS).serve
ACCEPTED = request_type(world.schema(), SERVE)
VALID = example_request(world.schema())


class StubRanker:
    """A ranker that takes `seconds` per request and counts the requests."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.ranked = seconds, 0

    def rank(self, request: RankRequest) -> RankingResult:
        """The candidates in the order of the request, each with the score 1."""
        time.sleep(self.seconds)
        self.ranked += 1
        ones = np.ones(len(request.candidates))
        return ranking(items=list(request.candidates), scores=ones, probabilities={"click": ones}, seconds={})


def ranking(count: int = 20, **changes: Any) -> RankingResult:
    """A result of `count` items, with changes."""
    values = np.linspace(0.1, 0.9, count)
    fields: dict[str, Any] = {
        "items": list(range(count)),
        "scores": values,
        "probabilities": {"click": values},
        "model": "a",
        "data_date": None,
        "unknown_user": False,
        "unknown_items": [],
        "seconds": {"features": 0.001, "encode": 0.002, "model": 0.004},
    } | changes
    return RankingResult(**{"considered": len(fields["items"])} | fields)


def api_in_front_of(ranker: Any = None, *, key: str | None = None, **limits: Any) -> ApiMiddleware:
    """The middleware without an application behind it, in front of `ranker`, with other limits."""
    settings = SERVE.model_copy(update={"limits": SERVE.limits.model_copy(update=limits)})
    api = RankingApi()
    api.open(ranker or StubRanker(), ACCEPTED, settings, model_info=dict, key=key)
    return ApiMiddleware(api=api)


def call(app: Any, act: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """What `act` returns for a client of the ASGI application `app`."""

    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://hinet") as client:
            return await act(client)

    return asyncio.run(run())


def problem_of(response: Any, status: int) -> dict[str, Any]:
    """The problem details of a response, which must have this status."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "errors"} <= set(problem)
    assert problem["status"] == status
    return problem


def samples(page: str | bytes) -> dict[tuple[Any, ...], float]:
    """The samples of a Prometheus page, by name and labels."""
    text = page if isinstance(page, str) else page.decode()
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def sample(page: str | bytes, name: str, **labels: str) -> float:
    """One sample of a Prometheus page."""
    return samples(page)[(name, *sorted(labels.items()))]
