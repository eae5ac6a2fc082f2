"""Who gets in: the key, the form and size of a body, and how many requests a worker holds at once.

A ranking runs on the event loop, one after another: more at once would only make each of them slower. Whoever waits
is counted, and whoever would wait too long is told so at once.
"""

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Iterator, Mapping
from http import HTTPStatus

from starlette.types import Receive

from common.params import ServeLimits
from serving.http.problem_details import Refused

LATER = {"Retry-After": "1"}  # seconds
CLOSE = {"Connection": "close"}  # what is left of the body is not read
JSON_ONLY = "the body must be JSON, sent with Content-Type: application/json"
KEY = {"WWW-Authenticate": 'Bearer realm="hinet"'}
DIGITS = 18  # of a length that anybody could mean
Headers = Mapping[bytes, bytes]


class Disconnected(Exception):  # noqa: N818  # nobody is left to be told
    """The client went away before its body had arrived."""


class Admission:
    """Counts the requests of this worker and gives them their turns; raises Refused beyond `limits`."""

    def __init__(self, limits: ServeLimits) -> None:
        self.limits, self.inside = limits, 0
        self._turn = asyncio.Lock()

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests that are held at once; raises Refused (429) where there is none."""
        if self.inside >= self.limits.concurrent:
            told = f"{self.inside} requests are being answered or wait: try again in {LATER['Retry-After']} s"
            raise Refused(HTTPStatus.TOO_MANY_REQUESTS, told, headers=LATER | CLOSE)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    @contextlib.asynccontextmanager
    async def turn(self, since: float) -> AsyncIterator[None]:
        """A turn to use the processor; raises Refused (503) for who waits longer than the limit (`since`: loop time).

        Before each turn the loop looks what has arrived meanwhile, so that it is counted, or refused, without delay.
        """
        async with self._turn:
            await asyncio.sleep(0)
            if asyncio.get_running_loop().time() - since > self.limits.seconds:
                told = f"no turn within {self.limits.seconds} s: the service is overloaded"
                raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, told, headers=LATER)
            yield

    async def body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body; raises Refused where it is no JSON, too large (it is not read to its end) or too slow."""
        check_form(headers)
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            raise Refused(HTTPStatus.BAD_REQUEST, "Content-Length must be a number", headers=CLOSE)
        if len(length) > DIGITS or int(length) > self.limits.body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._read(receive)
        except TimeoutError:
            told = f"the body did not arrive within {self.limits.seconds} s"
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, told, headers=CLOSE) from None

    async def _read(self, receive: Receive) -> bytes:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limits.body_bytes:
                raise self._too_large()
        return body

    def _too_large(self) -> Refused:
        told = f"the body is larger than {self.limits.body_bytes:,} bytes: send fewer candidates at once"
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told, headers=CLOSE)


def check_form(headers: Headers) -> None:
    """Raises Refused (415) where a body is announced as something other than plain JSON in UTF-8."""
    kind, *parameters = headers.get(b"content-type", b"").lower().replace(b" ", b"").split(b";")
    plain = headers.get(b"content-encoding", b"identity").lower() == b"identity"
    if kind != b"application/json" or not plain or any(p not in (b"", b"charset=utf-8") for p in parameters):
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, JSON_ONLY, headers={"Accept": "application/json"} | CLOSE)


def check_key(headers: Headers, key: bytes) -> None:
    """Raises Refused (401) without the key; the time that it takes does not tell how much of a key was right."""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    if not hmac.compare_digest(given.strip(), key) or scheme.lower() != b"bearer":
        raise Refused(HTTPStatus.UNAUTHORIZED, "send the key of this service: Authorization: Bearer KEY", headers=KEY)
