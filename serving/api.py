"""The HTTP path: POST /rank, and what is answered to a request that breaks a rule (field, rule and what was found)."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from serving.answer import Fault, Ranking, fault_of, ranking_of
from serving.ranked import Ranked
from serving.request import RankRequest

REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Fault, "description": "The request breaks a rule: which, where, and what was found"}
}


def empty_api() -> FastAPI:
    """An API without routes: what it accepts is known only once a model, and with it the schema, is read."""
    api = FastAPI(title="HiNet ranking", openapi_url=None, docs_url=None, redoc_url=None)  # BentoML shows the page
    api.add_exception_handler(RequestValidationError, _refuse_request)
    api.add_exception_handler(HTTPException, _refuse)
    return api


def serve_ranking(api: FastAPI, rank: Callable[[RankRequest], Ranked], accepted: type[RankRequest]) -> None:
    """Let `api` answer POST /rank by `rank`, for requests of the type `accepted`, and nothing else."""

    async def answer(request: RankRequest) -> Ranking:  # no thread: it is all Python's own work, threads slow it down
        return ranking_of(rank(request))

    answer.__annotations__["request"] = accepted
    router = APIRouter()
    router.add_api_route(
        "/rank", answer, methods=["POST"], operation_id="rank", summary="Rank items for one user in one scenario",
        response_description="The items, best first", responses=REFUSED,
    )  # fmt: skip
    api.router.routes[:] = router.routes


def _refuse_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(fault_of(error.errors()).model_dump(), 400)


def _refuse(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse(Fault(error=error.detail, detail=[]).model_dump(), error.status_code, error.headers)
