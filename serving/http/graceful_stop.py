"""The stop of a worker: SIGTERM lets it answer what is in flight and refuse what comes, then ends it, within seconds.

Uvicorn alone closes idle connections at once, with the requests that are on their way in them, and waits for slow
clients without a limit; the arbiter of `bentoml serve` waits for its workers for a day, and keeps the listening socket
open meanwhile: connections would be accepted by the kernel and reset at the end. So a worker that gets the signal

1. refuses requests with 503 and ends connections by its answers, while those in flight are answered;
2. lets the listening socket refuse connections, once every worker of the service stops (a single one that is
   signalled leaves the socket to the others);
3. passes the signal on to uvicorn, which ends the worker;
4. is ended anyway after DEADLINE seconds.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from serving.http.routes import RankingApi

ARRIVE = 0.3  # seconds in which what was sent before the signal arrives
ANSWER = 6.0  # seconds for the requests in flight; a queued one waits at most `serve.limits.seconds`
DEADLINE = 9.0  # seconds after the signal
NAME = "hinet-stopping"  # of a worker's main thread, at most 15 characters: how workers see each other
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

    def _begin(self, number: int, _: FrameType | None) -> None:
        """Begin the stop; a further signal, such as the arbiter's after Ctrl-C, changes nothing."""
        if self._task is None:
            self.api.stop()
            _end_after(DEADLINE)
            self._task = asyncio.get_running_loop().create_task(self._stop(number))

    async def _stop(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + ANSWER
        await asyncio.sleep(ARRIVE)
        while self.api.in_flight and loop.time() < until:
            await asyncio.sleep(0.02)
        if _last_worker_stops():
            refuse_connections()
            await asyncio.sleep(ARRIVE)  # for the requests of connections that were accepted just before
        self._handlers[number](number, None)


def refuse_connections() -> None:
    """Let the listening socket of this worker refuse connections, in every process that holds it.

    A worker that the arbiter starts later listens on it again.
    """
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    with contextlib.suppress(KeyError, ValueError, OSError):
        listening = socket.socket(fileno=os.dup(int(arguments["--fd"])))
        with contextlib.closing(listening):
            listening.shutdown(socket.SHUT_RDWR)


def _last_worker_stops() -> bool:
    """Whether every worker of this service has begun to stop, this one included; True where that is not known."""
    try:
        Path("/proc/self/comm").write_text(NAME, encoding="utf-8")
        parent = Path(f"/proc/{os.getppid()}/task")
        children = {pid for task in parent.iterdir() for pid in (task / "children").read_text().split()}
        names = [_name(pid) for pid in children if _is_worker(pid)]
    except OSError:
        return True
    return all(name == NAME for name in names)


def _is_worker(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return b"--worker-id" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False


def _name(pid: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    return NAME  # it has ended


def _end_after(seconds: float) -> None:
    """End this process after `seconds`, whatever it does then."""

    def end() -> None:
        _LOGGER.warning("not everything was answered and written within %.0f s of the signal: the worker ends", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
