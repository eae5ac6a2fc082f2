"""The bounded protocol on a socket: what a connection may send, hold and keep waiting."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvicorn

from serving.http import protocol
from serving.http.protocol import BoundedProtocol
from tests.support.serving import VALID, api_in_front_of

BODY = orjson.dumps(VALID)
POST = b"POST /rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
RANK = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
MEGABYTE = 2**20
Act = Callable[[int], Awaitable[Any]]
pytestmark = pytest.mark.integration


def served(act: Act, app: Any = None, keep_alive: int = 5) -> Any:
    """What `act` returns for the port of a server with the bounded protocol."""

    async def run() -> Any:
        config = uvicorn.Config(
            app or api_in_front_of(seconds=1.0),
            port=0,
            lifespan="off",
            log_level="error",
            http=BoundedProtocol,
            timeout_keep_alive=keep_alive,
        )
        server, listening = uvicorn.Server(config), config.bind_socket()
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            return await asyncio.wait_for(act(listening.getsockname()[1]), 20)
        finally:
            server.should_exit = True
            await serving

    return asyncio.run(run())


def sent(*parts: bytes, pause: float = 0.0) -> Act:
    """All that comes back for the parts, sent one after another, until the connection ends."""

    async def act(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        except OSError:
            pass  # what was answered before can be read
        answer = b""
        try:
            while data := await reader.read(65_536):
                answer += data
        except OSError:
            pass
        writer.close()
        return answer

    return act


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in what came back."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_normal_requests_are_answered() -> None:
    """One after another, in one piece, byte by byte, and with an upgrade that is not followed."""
    close = RANK.replace(b"Host: x", b"Host: x\r\nConnection: close")
    assert statuses(served(sent(RANK, RANK, close, pause=0.05))) == [200, 200, 200]
    assert statuses(served(sent(RANK + RANK + close))) == [200, 200, 200]
    assert statuses(served(sent(*(close[i : i + 1] for i in range(len(close)))))) == [200]
    upgrade = b"GET /docs.json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert statuses(served(sent(upgrade), keep_alive=1)) == [200]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /model HTTP/1.1\r\nX: " + b"v" * MEGABYTE + b"\r\n\r\n",
        b"GET /model HTTP/1.1\r\n" + b"".join(b"x-%d: v\r\n" % i for i in range(10_000)) + b"\r\n",
        b"GET /model HTTP/1.1\r\n" + b"x: v\r\n" * (protocol.HEADERS + 1) + b"\r\n",
        b"GET /" + b"p" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /model HTTP/1.1\r\n" + b"X: " + b"v" * 8 * MEGABYTE,
    ],
    ids=["one large", "many", "one too many", "path", "endless"],
)
def test_a_request_with_a_large_head_is_refused(head: bytes) -> None:
    """With 431, or the connection ends while it still sends; nothing of it reaches the application."""
    reached: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    assert statuses(served(sent(head), application)) in ([431], [])
    assert not reached


def test_trailers_and_the_frame_of_a_chunked_body_are_bounded() -> None:
    """Trailers that go on, one trailer without end, and a million empty-handed chunks end the connection."""
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    small = b"1;" + b"e" * 1000 + b"\r\n \r\n"
    for rest in (b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 100_000, b"0\r\nx: " + b"v" * 4 * MEGABYTE, small * 4000):
        assert statuses(served(sent(chunked, rest))) in ([], [408], [431], [400], [413], [422])


def test_a_head_that_comes_slowly_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that sends nothing, or too little, gets a 408 in time; so does a second request."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    assert statuses(served(sent())) == [408]
    assert statuses(served(sent(POST[:5], POST[5:9], pause=0.1))) == [408]
    assert statuses(served(sent(RANK, b"GET", pause=0.05))) == [200, 408]


def test_an_answer_that_is_not_read_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large answer the connection ends, whether it would stay alive or not; what waits is freed."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)
    large = b"x" * 32 * MEGABYTE

    async def application(scope: Any, receive: Any, send: Any) -> None:
        closing = [(b"connection", b"close")] if scope["path"] == "/close" else []
        headers = [(b"content-length", b"%d" % len(large)), *closing]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": large})

    async def act(port: int) -> int:
        writers = []
        for path in (b"/", b"/close"):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            writers.append(writer)
        await asyncio.sleep(1.0)
        received = 0
        for writer in writers:
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            received += len(await _rest(writer))
            writer.close()
        return received

    async def _rest(writer: asyncio.StreamWriter) -> bytes:
        reader = writer.transport.get_protocol()._stream_reader  # type: ignore[attr-defined]
        try:
            return bytes(await reader.read())
        except OSError:
            return b""

    assert served(act, application, keep_alive=1) < len(large)


def test_a_connection_beyond_the_limit_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once; the others are answered, and a new one, too, when one of them has ended."""
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)

    async def act(port: int) -> list[int]:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.1)
        beyond = await sent(RANK)(port)
        held[0][1].write(RANK.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        answer = await held[0][0].read()
        after = await sent(RANK.replace(b"Host: x", b"Host: x\r\nConnection: close"))(port)
        for _, writer in held:
            writer.close()
        return [len(statuses(beyond)), *statuses(answer), *statuses(after)]

    assert served(act) == [0, 200, 200]


def test_a_worker_uses_the_protocol() -> None:
    """A configuration of uvicorn that names no protocol, as BentoML's, has this one."""
    protocol.use_bounded_protocol()
    config = uvicorn.Config(api_in_front_of(), lifespan="off")
    config.load()
    assert config.http_protocol_class is BoundedProtocol
