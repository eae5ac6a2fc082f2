"""The stop of a worker: SIGTERM lets it answer what is in flight and refuse what comes, then ends it, within seconds.

Uvicorn alone closes idle connections at once, with the requests that are on their way in them, and waits for slow
clients without a limit; the arbiter of `bentoml serve` waits for its workers for a day, and keeps the listening socket
open meanwhile: connections would be accepted by the kernel and reset at the end. So a worker that gets the signal

1. refuses requests with 503 and ends connections by its answers, while those in flight are answered;
2. accepts no more connections (the other workers do); the last one first accepts what waits in the listening socket,
   and then lets it refuse connections;
3. answers what comes in the connections that it has accepted, and passes the signal on to uvicorn, which ends it;
4. is ended anyway after DEADLINE seconds.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.listening_socket import (
    drop_new_connections,
    has_waiting,
    listening_socket,
    refuse_connections,
    take_new_connections,
)
from serving.http.routes import RankingApi

ARRIVE = 0.3  # seconds in which what was sent before the signal arrives, and connections that have begun complete
ANSWER = 6.0  # seconds after the signal for the requests in flight; a queued one waits at most `serve.limits.seconds`
ACCEPT = 7.0  # for the connections that wait in the listening socket
REQUEST = 8.0  # for the requests of connections in which none has come yet
DEADLINE = 9.0
CHECK = 0.02  # seconds between two looks at one of these
ANSWERED, CLOSED, ENDED = "hinet-answered", "hinet-closed", ""  # how workers see each other; at most 15 characters
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOGGER = logging.getLogger(__name__)

Handler = Callable[[int, FrameType | None], object]


class GracefulStop:
    """Handles the signals of a worker in place of its server, whose handlers are called when nothing is in flight."""

    def __init__(self, api: RankingApi) -> None:
        self.api = api
        self._handlers: dict[int, Handler] = {}
        self._task: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Handle the signals from now on, where this is the main thread of a server that handles them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler) and handler is not signal.default_int_handler:
                self._handlers[number] = handler
                signal.signal(number, self._begin)
        with listening_socket() as listening:
            if listening is not None:
                take_new_connections(listening)

    def _begin(self, number: int, _: FrameType | None) -> None:
        """Begin the stop; a further signal, such as the arbiter's after Ctrl-C, changes nothing."""
        if self._task is None:
            self.api.stop()
            _end_after(DEADLINE)
            self._task = asyncio.get_running_loop().create_task(self._stop(number))

    async def _stop(self, number: int) -> None:
        handler, began = self._handlers[number], asyncio.get_running_loop().time()
        await asyncio.sleep(ARRIVE)
        await _wait_while(lambda: self.api.in_flight > 0, began + ANSWER)
        server = _server_of(handler)
        with listening_socket() as listening:
            await _end_listening(listening, server, began + ACCEPT)
        await asyncio.sleep(ARRIVE)
        await _wait_while(lambda: _awaits_request(server), began + REQUEST)
        handler(number, None)


async def _end_listening(listening: socket.socket | None, server: Server | None, until: float) -> None:
    """Accept no more in this worker; the last one accepts what waits, then lets the socket refuse connections."""
    _show(ANSWERED)
    if listening is not None and _every_worker(ANSWERED, CLOSED):
        drop_new_connections(listening)
        await asyncio.sleep(ARRIVE)
        await _wait_while(lambda: has_waiting(listening), until)
    for accepting in getattr(server, "servers", ()):
        accepting.close()
    _show(CLOSED)
    if listening is not None and _every_worker(CLOSED):
        refuse_connections(listening)


def _server_of(handler: Handler) -> Server | None:
    """The server whose method a handler is."""
    server = getattr(handler, "__self__", None)
    return server if isinstance(server, Server) else None


def _awaits_request(server: Server | None) -> bool:
    """Whether the server has a connection in which no request has come yet."""
    connections = server.server_state.connections if server else ()
    return any(isinstance(one, HttpToolsProtocol) and one.cycle is None for one in connections)


async def _wait_while(condition: Callable[[], bool], until: float) -> None:
    """Wait as long as `condition` holds, but not longer than until this time of the loop."""
    loop = asyncio.get_running_loop()
    while condition() and loop.time() < until:
        await asyncio.sleep(CHECK)


def _show(name: str) -> None:
    """Let the other workers see how far this one is."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="utf-8")


def _every_worker(*names: str) -> bool:
    """Whether every worker of this service shows one of these names or has ended; True where that is not known."""
    try:
        parent = Path(f"/proc/{os.getppid()}/task")
        children = {pid for task in parent.iterdir() for pid in (task / "children").read_text().split()}
        return all(_name(pid) in {*names, ENDED} for pid in children if _is_worker(pid))
    except OSError:
        return True


def _is_worker(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return b"--worker-id" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _name(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    return ENDED


def _end_after(seconds: float) -> None:
    """End this process after `seconds`, whatever it does then."""

    def end() -> None:
        _LOGGER.warning("not everything was answered and written within %.0f s of the signal: the worker ends", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
