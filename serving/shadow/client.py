"""A second model beside the one that answers: it is asked a share of the requests, and never heard.

It lives in a process of its own (serving/shadow/worker.py) with the lowest priority, because a thread would take turns with
the requests at every product of the network. A request pays for a draw and a place in a queue, after its answer; a
thread hands the queue on. What finds the queue full is left out and counted; a process that ends is started again.
"""

import contextlib
import logging
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from common.errors import ParameterError
from common.params import ServeShadow
from serving.ranking.request import RankRequest
from serving.ranking.result import Ranked

WAITING = 100  # requests: what comes while so many wait is left out
PAUSE = 30.0  # seconds until a process that ended is started again
NICE = 19
WRITE_AND_END = signal.SIGUSR1  # to the process: leave unread what is left, write what was compared, and end
TOLD = {"model": "HINET_SHADOW", "share": "HINET_SHADOW_SHARE", "folder": "HINET_SHADOW_LOG"}  # over params.yaml
_LOGGER = logging.getLogger(__name__)


class Shadow:
    """Hands a share of the requests, with what was answered, to the process of a second model.

    `command` starts that process in `root`; it reads a JSON line per request. Counted are requests: `asked` were handed
    on, `missed` left out because the queue was full, `failed` lost because there was no process.
    """

    def __init__(self, command: list[str], share: float, *, root: Path, pause: float = PAUSE) -> None:
        self.command, self.share, self.root, self.pause = command, share, root, pause
        self.asked = self.missed = self.failed = 0
        self._queue: queue.Queue[Callable[[], bytes] | None] = queue.Queue(WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def ranked(self, request: RankRequest, ranked: Ranked) -> None:
        """Let the second model have a request that was answered, if it is drawn; returns at once, raises nothing.

        Degraded answers are left out: they are not what the first model says.
        """
        if ranked.degraded or random.random() >= self.share:
            return
        try:
            self._queue.put_nowait(lambda: line_of(request, ranked))
        except queue.Full:
            self.missed += 1

    def close(self, timeout: float = 10) -> None:
        """Hand on what waits, and stop; the process ends with its input, or when it is told, if that takes too long."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=timeout)
        self._thread.join(timeout)
        self._end(timeout)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._hand_on(line())
            except Exception:
                self.failed += 1
                _LOGGER.warning("shadow: a request could not be handed on (%d so far)", self.failed, exc_info=True)
                self._end(timeout=1)
                self._stop.wait(self.pause)

    def _hand_on(self, line: bytes) -> None:
        if self._process is None:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, cwd=self.root)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        self.asked += 1

    def _end(self, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        for last in (WRITE_AND_END, signal.SIGKILL):
            try:
                process.wait(timeout / 2)
            except subprocess.TimeoutExpired:
                process.send_signal(last)
        process.wait()


def line_of(request: RankRequest, ranked: Ranked) -> bytes:
    """A request and its answer as a JSON line."""
    said = {
        "items": ranked.items,
        "scores": ranked.scores,
        "probabilities": ranked.probabilities,
        "model": ranked.model,
        "seconds": sum(ranked.seconds.values()),
    }
    asked = {"request": request.model_dump(exclude={"k", "explain"}), "answer": said}
    return orjson.dumps(asked, _listed, orjson.OPT_SERIALIZE_NUMPY) + b"\n"


def chosen_shadow(settings: ServeShadow) -> ServeShadow:
    """What params.yaml says of the shadow, changed by what the environment does: a bento's parameters are sealed.

    Raises ParameterError.
    """
    found: dict[str, Any] = {name: os.environ[told] for name, told in TOLD.items() if told in os.environ}
    try:
        found |= {"share": float(found["share"])} if "share" in found else {}
        return ServeShadow.model_validate(settings.model_dump() | found)
    except ValueError:  # pydantic's is one, too
        share = TOLD["share"]
        raise ParameterError(
            f"{share} must be a share of the requests, above 0 and at most 1, found {os.environ[share]!r}"
        ) from None


def open_shadow(settings: ServeShadow, root: Path, *, online: Path, redis: str | None) -> Shadow | None:
    """The shadow that `settings` ask for, or None; a relative folder is under `root`.

    The second model reads the online store of the first one.
    """
    if settings.model is None:
        return None
    from serving.shadow import worker  # what it imports is heavy, and here already

    command = [sys.executable, "-m", worker.__name__, "--model", str(root / settings.model), "--online", str(online)]
    command += ["--redis", redis] if redis else []
    command += ["--folder", str(root / settings.folder)] if settings.folder else []
    return Shadow(command, settings.share, root=root)


def _listed(array: object) -> object:
    """What orjson does not take: an array that does not lie in one piece."""
    return array.tolist()  # type: ignore[attr-defined]
