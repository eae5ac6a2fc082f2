"""The API methods as BentoML calls them: in this process, or for a service that depends on this one.

Arguments become JSON, and the answer of the route becomes a value again, so that a call has the rules, limits, answers
and errors of the request. This is not the fast path: requests of HTTP clients are answered in front of BentoML
(serving/http/middleware.py).
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

import orjson
from bentoml.exceptions import BentoMLException
from pydantic_core import PydanticSerializationError, to_json

from serving.http.problem_details import ProblemError
from serving.http.routes import RankingApi

_ROUTED: ContextVar[bool] = ContextVar("routed", default=False)


async def call(api: RankingApi, method: str, arguments: Any) -> Any:
    """The answer of the API method `method`; raises the exception that BentoML's clients raise for its problem.

    Where a route of BentoML calls, a problem is returned as a response: BentoML would log a traceback of the exception,
    and keep little of it.
    """
    try:
        return orjson.loads(await api.answer(method, _as_json(arguments)))
    except ProblemError as problem:
        if _ROUTED.get():
            return problem.response()
        raise _exception_of(problem) from None


@contextlib.contextmanager
def routed() -> Iterator[None]:
    """Calls within are those of a route of BentoML."""
    token = _ROUTED.set(True)
    try:
        yield
    finally:
        _ROUTED.reset(token)


def _as_json(arguments: Any) -> bytes:
    try:
        return to_json(arguments, inf_nan_mode="constants")
    except (PydanticSerializationError, UnicodeEncodeError) as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, f"arguments: must be JSON: {error}") from None


def _exception_of(problem: ProblemError) -> BentoMLException:
    """The exception that BentoML's clients make of a response: its text is the problem as JSON."""
    status = HTTPStatus(problem.status_code)
    exception = BentoMLException.error_mapping.get(status, BentoMLException)
    return exception(problem.body().decode(), error_code=status)
