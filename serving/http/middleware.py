"""The ASGI application before BentoML's own: it answers the paths of the API itself and hands on the rest.

Whatever is refused, by it or behind it, is a problem as JSON; whatever goes wrong is a 500 that says no more than where
to find it in the log.
"""

import contextlib
import dataclasses
import itertools
import logging
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.limits import Disconnected, Headers, check_key
from serving.http.problem_details import MEDIA_TYPE, Refused
from serving.http.routes import API, Answer, Route

ENDS = 64  # every so many answers of a worker end their connection: the next one is accepted by a worker that is free
OPEN = frozenset({"/healthz", "/livez", "/readyz"})  # to everybody: they tell nothing, and probes hold no keys
_LOGGER = logging.getLogger(__name__)


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """What lies behind a front that stands alone."""
    raise Refused(HTTPStatus.NOT_FOUND, f"there is no {scope['path']}")


class Front:
    """Middleware: `api` first, then `app`."""

    def __init__(self, app: ASGIApp = nothing, *, api: API) -> None:
        self.app, self.api = app, api
        self._answers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, path = time.perf_counter(), scope["path"]
        sending = _Sending(send, path)
        try:
            if self.api.key and path not in OPEN:
                check_key(dict(scope["headers"]), self.api.key)
            route = self.api.routes.get(path)
            if route is None:
                await self.app(scope, receive, sending.behind)
            else:
                answer = await self._answer(route, scope, receive)
                if next(self._answers) % ENDS == 0:
                    answer = dataclasses.replace(answer, headers=answer.headers | {"connection": "close"})
                await sending.answer(answer)
        except Disconnected:
            return
        except Refused as refused:
            await sending.problem(refused)
        except Exception:
            await sending.problem(_unexpected(scope))
        if self.api.metrics:
            self.api.metrics.answered(path if path in self.api.routes else "other", sending.status, started)

    async def _answer(self, route: Route, scope: Scope, receive: Receive) -> Answer:
        _check_method(route.method, scope["method"])
        self.api.check_ready()
        if route.method != "POST":
            return await route.answer(b"")
        headers = dict(scope["headers"])
        with self.api.admission.place(), self._traced(headers):
            return await route.answer(await self.api.admission.body(headers, receive))

    def _traced(self, headers: Headers) -> contextlib.AbstractContextManager[None]:
        return self.api.tracing.joined(headers) if self.api.tracing else contextlib.nullcontext()


class _Sending:
    """Sends one answer; one that comes from behind as an error in another form is told as a problem."""

    def __init__(self, send: Send, path: str) -> None:
        self.send, self.path = send, path
        self.status, self._swallowed = 0, False

    async def answer(self, answer: Answer) -> None:
        """Send `answer`; nothing more, if one was begun already."""
        if self.status:
            return
        self.status = answer.status
        headers = {"content-type": answer.kind, "content-length": str(len(answer.body))} | answer.headers
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": int(answer.status), "headers": pairs})
        await self.send({"type": "http.response.body", "body": answer.body})

    async def problem(self, refused: Refused) -> None:
        """Send why the request is refused."""
        await self.answer(Answer(refused.body(), MEDIA_TYPE.decode(), refused.status, refused.headers))

    async def behind(self, message: Message) -> None:
        """Pass on what the application behind sends, but for errors that are no problems yet."""
        if self._swallowed:
            return
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self._swallowed = True
            await self.problem(_translated(message, self.path))
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.send(message)


def _translated(message: Message, path: str) -> Refused:
    status = HTTPStatus(message["status"])
    kept = {b"allow": "Allow", b"retry-after": "Retry-After"}
    headers = {kept[name]: value.decode() for name, value in message.get("headers", []) if name in kept}
    told = f"there is no {path}" if status is HTTPStatus.NOT_FOUND else f"{path}: {status.description or status.phrase}"
    return Refused(status, told, headers=headers)


def _check_method(expected: str, found: str) -> None:
    allowed = ("GET", "HEAD") if expected == "GET" else (expected,)
    if found not in allowed:
        told = f"{found} is not answered here, but {expected} is"
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, told, headers={"Allow": ", ".join(allowed)})


def _unexpected(scope: Scope) -> Refused:
    """A fault of ours: the log says which, the answer where to look for it."""
    refused = Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong in the service: its log says what")
    _LOGGER.exception("%s %s failed: %s", scope["method"], scope["path"], refused.instance)
    return refused
