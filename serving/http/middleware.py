"""ASGI middleware in front of BentoML's application: routes the paths of the API and passes on the others.

Every error response is a problem (RFC 9457), BentoML's included. An unexpected exception is a 500 that names only the
id under which the log has its cause.
"""

import logging
import time
from http import HTTPStatus
from typing import Any

from bentoml import server_context
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.limits import check_api_key
from serving.http.methods import routed
from serving.http.problem_details import MEDIA_TYPE, ProblemError, shorten
from serving.http.routes import RankingApi

READY = "/readyz"
PICKLE = "application/vnd.bentoml+pickle"  # of the service that depends on this one, through a socket of theirs
PROBES = frozenset({"/healthz", "/livez", READY})  # need no key: they disclose nothing
KEPT_HEADERS = ("Allow", "Retry-After")  # of an error response of BentoML
_LOGGER = logging.getLogger(__name__)


async def no_application(scope: Scope, receive: Receive, send: Send) -> None:
    """The application behind a middleware that is used alone."""
    raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no {shorten(scope['path'])}")


class ApiMiddleware:
    """Answers the routes of `api`, and passes all other requests to `app`."""

    def __init__(self, app: ASGIApp = no_application, *, api: RankingApi) -> None:
        self.app, self.api = app, api
        self._dependency = server_context.service_type == "service"
        self._router = Router(api.routes, redirect_slashes=False, default=self._pass_on)
        handlers: dict[Any, Any] = {
            ProblemError: _problem,
            HTTPException: _wrong_method,  # a Route raises no other
            ClientDisconnect: _no_response,
            Exception: _unexpected,
        }
        self._handled = ExceptionMiddleware(self._authorized, handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and count the response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, path, status = time.perf_counter(), scope["path"], 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope.setdefault("app", self)  # with an "app", a Route raises an exception for a wrong method
        await self._handled(scope, receive, send_and_note)
        if self.api.metrics and status:
            self.api.metrics.answered(path if path in self.api.paths else "other", status, started)

    async def _authorized(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.api.key and scope["path"] not in PROBES:
            check_api_key(Headers(scope=scope), self.api.key)
        if self._dependency and Headers(scope=scope).get("content-type") == PICKLE:
            await self._pass_on(scope, receive, send)
        else:
            await self._router(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application behind answer; an error response of it becomes a problem."""
        path = scope["path"]
        if path == READY:
            self.api.check_running()
        if path not in self.api.paths and path.rstrip("/") in self.api.paths:
            raise ProblemError(HTTPStatus.NOT_FOUND, f"there is no {shorten(path)}")  # BentoML would redirect
        problem: ProblemError | None = None

        async def send_unless_error(message: Message) -> None:
            nonlocal problem
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                problem = _as_problem(message, shorten(path))
            if problem is None:
                await send(message)

        with routed():
            await self.app(scope, receive, send_unless_error)
        if problem is not None:
            raise problem


def _as_problem(message: Message, path: str) -> ProblemError | None:
    """The problem of an error response; None where it is one already."""
    status, headers = HTTPStatus(message["status"]), Headers(raw=list(message.get("headers", [])))
    if headers.get("content-type") == MEDIA_TYPE:
        return None
    kept = {name: headers[name] for name in KEPT_HEADERS if name in headers}
    detail = f"{path}: {status.description or status.phrase}"
    return ProblemError(status, f"there is no {path}" if status is HTTPStatus.NOT_FOUND else detail, headers=kept)


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


async def _wrong_method(request: Request, error: Exception) -> Response:
    """Starlette's 405 for a known path as a problem; its methods come in no order."""
    assert isinstance(error, HTTPException)
    allowed = sorted((error.headers or {}).get("Allow", "").split(", "))
    detail = f"{shorten(request.method)} is not answered here, but {allowed[0]} is"
    return ProblemError(error.status_code, detail, headers={"Allow": ", ".join(allowed)}).response()


async def _no_response(_: Request, __: Exception) -> None:
    """The client disconnected before its body had arrived."""


async def _unexpected(request: Request, error: Exception) -> Response:
    """A fault of the service: the log has its cause, the response the id under which it is logged."""
    detail = "something went wrong in the service: its log says what"
    problem = ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, detail)
    _LOGGER.error(
        "%s %s failed: %s", shorten(request.method), shorten(request.scope["path"]), problem.instance, exc_info=error
    )
    return problem.response()
