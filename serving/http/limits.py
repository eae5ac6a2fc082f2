"""Limits: the API key, the media type and size of a body, admission and load shedding.

Rankings run on the event loop, one after another: running more at once would only make each of them slower. Requests
beyond the number that a worker holds at once, and requests that wait too long, are refused at once.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request

from common.serve_params import ServeLimits
from serving.http.problem_details import ProblemError

RETRY_AFTER = {"Retry-After": "1"}  # seconds
CLOSE = {"Connection": "close"}  # the rest of the body is not read
JSON_ONLY = "the body must be JSON, sent with Content-Type: application/json"
BEARER = {"WWW-Authenticate": 'Bearer realm="hinet"'}
MAX_DIGITS = 18  # of a Content-Length
LARGEST_HELD = 16  # bodies of the largest size that a worker holds at once: parsed, 1 MB of JSON takes some 15 MB


class AdmissionControl:
    """Admits requests to this worker and gives them turns on its processor; raises ProblemError beyond `limits`."""

    def __init__(self, limits: ServeLimits) -> None:
        self.limits, self.in_flight, self.held = limits, 0, 0  # requests, bytes of their bodies
        self.waiting = 0  # requests for the queue of events
        self._turn = asyncio.Lock()

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as in flight; raises ProblemError (429) where the worker holds as many as it may."""
        if self.in_flight >= self.limits.concurrent:
            raise self._too_many()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @contextlib.contextmanager
    def wait_for_queue(self) -> Iterator[None]:
        """Count a request as one that waits for the queue of events; raises ProblemError (429) for more than half.

        Where the queue does not answer for seconds, rankings have the other half of what the worker may hold.
        """
        if self.waiting >= max(1, self.limits.concurrent // 2):
            raise self._too_many()
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    @contextlib.asynccontextmanager
    async def turn(self, since: float) -> AsyncIterator[None]:
        """Wait for a turn on the processor; raises ProblemError (503) where that takes longer than the limit.

        `since` is the loop time at which the request began to wait. Before each turn the loop accepts what has
        arrived in the meantime, so that it is counted or refused without delay.
        """
        async with self._turn:
            await asyncio.sleep(0)
            if asyncio.get_running_loop().time() - since > self.limits.seconds:
                detail = f"no turn within {self.limits.seconds} s: the service is overloaded"
                raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
            yield

    @contextlib.asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The complete body, counted as held until the request is answered.

        Raises ProblemError where it is not JSON, too large (it is not read on), too slow, or where the worker holds as
        many bytes as it may.
        """
        chunks: list[bytes] = []
        try:
            await self._read(request, chunks)
            yield b"".join(chunks)
        finally:
            self.held -= sum(map(len, chunks))

    @contextlib.contextmanager
    def hold(self, body: bytes) -> Iterator[None]:
        """Count a body that did not come over HTTP as held; raises ProblemError where it is too large, or too many."""
        self.held += len(body)
        try:
            self._check_size(len(body))
            yield
        finally:
            self.held -= len(body)

    async def _read(self, request: Request, chunks: list[bytes]) -> None:
        check_media_type(request.headers)
        length = request.headers.get("content-length", "0")
        if not length.isdecimal():
            raise ProblemError(HTTPStatus.BAD_REQUEST, "Content-Length must be a number", headers=CLOSE)
        if len(length) > MAX_DIGITS or int(length) > self.limits.body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.seconds):
                await self._read_chunks(request, chunks)
        except TimeoutError:
            detail = f"the body did not arrive within {self.limits.seconds} s"
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, detail, headers=CLOSE) from None

    async def _read_chunks(self, request: Request, chunks: list[bytes]) -> None:
        size = 0
        async with contextlib.aclosing(request.stream()) as stream:
            async for chunk in stream:
                chunks.append(chunk)
                size += len(chunk)
                self.held += len(chunk)
                self._check_size(size)

    def _check_size(self, size: int) -> None:
        if size > self.limits.body_bytes:
            raise self._too_large()
        if self.held > LARGEST_HELD * self.limits.body_bytes:
            raise self._too_many()

    def _too_many(self) -> ProblemError:
        detail = f"{self.in_flight} requests are being answered or wait: try again in {RETRY_AFTER['Retry-After']} s"
        return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, detail, headers=RETRY_AFTER | CLOSE)

    def _too_large(self) -> ProblemError:
        detail = f"the body is larger than {self.limits.body_bytes:,} bytes: send fewer candidates at once"
        return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers=CLOSE)


def check_media_type(headers: Headers) -> None:
    """Raise ProblemError (415) unless the body is announced as plain JSON in UTF-8."""
    media_type, *parameters = headers.get("content-type", "").lower().replace(" ", "").split(";")
    plain = headers.get("content-encoding", "identity").lower() == "identity"
    if media_type != "application/json" or not plain or any(p not in ("", "charset=utf-8") for p in parameters):
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, JSON_ONLY, headers={"Accept": "application/json"} | CLOSE)


def check_api_key(headers: Headers, key: bytes) -> None:
    """Raise ProblemError (401) without the key, in a time that does not depend on how much of a key is right."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(given.strip(" \t").encode("latin-1"), key) or scheme.lower() != "bearer":
        detail = "send the key of this service: Authorization: Bearer KEY"
        raise ProblemError(HTTPStatus.UNAUTHORIZED, detail, headers=BEARER)
