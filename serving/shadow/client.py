"""The shadow model's client: passes a share of the answered requests to a process that ranks them with another model.

The process (serving/shadow/worker.py) has the lowest priority; a thread would compete with the requests for Python's
global lock. A request costs a random draw and an entry in a queue, after its answer. A thread empties the queue into
the process. Requests that find the queue full are dropped and counted; a process that ends is started again.
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
from dataclasses import replace
from pathlib import Path

from common.serve_params import ServeShadow
from common.settings import Settings
from serving.ranking.ab_split import CHALLENGER
from serving.ranking.model_sources import ModelSources
from serving.ranking.request import RankRequest
from serving.ranking.result import RankingResult, ScoredCandidates
from serving.shadow.protocol import WRITE_AND_END, encode_line
from serving.telemetry.byte_queue import ByteQueue

WORKER = "serving.shadow.worker"  # started by its name: this module does not import it
QUEUE_SIZE, QUEUE_BYTES = 100, 8 * 2**20  # requests, and about the bytes they were read from: more are dropped
PAUSE = 30.0  # seconds until a process that ended is started again
NICE = 19
_LOGGER = logging.getLogger(__name__)


class ShadowClient:
    """Sends a share of the requests, with their answers, to the process of the shadow model.

    `command` starts that process in `root`; it reads a JSON line per request. Counted are requests: `sent`, `missed`
    because the queue was full, and `failed` because there was no process.
    """

    def __init__(self, command: list[str], share: float, *, root: Path, pause: float = PAUSE) -> None:
        self.command, self.share, self.root, self.pause = command, share, root, pause
        self.sent = self.missed = self.failed = 0
        self._queue: ByteQueue[Callable[[], bytes]] = ByteQueue(QUEUE_SIZE, QUEUE_BYTES)
        self._process: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def ranked(self, request: RankRequest, result: RankingResult, _: ScoredCandidates | None = None) -> None:
        """Send an answered request if it is drawn (a ranking observer); returns at once and raises nothing.

        Degraded answers, and those of the challenger of an A/B test, are left out: they are not those of the model in
        use.
        """
        if result.degraded or result.arm == CHALLENGER or random.random() >= self.share:
            return
        short = replace(result, explanation=None)  # which is large, and not compared
        try:
            self._queue.put_nowait(lambda: encode_line(request, short), request.size + result.scores.nbytes)
        except queue.Full:
            self.missed += 1

    def close(self, timeout: float = 10) -> None:
        """Send what is in the queue, and end the process: by the end of its input, by signal if that takes too long."""
        self._stop.set()
        with contextlib.suppress(queue.Full):
            self._queue.end(timeout)
        self._thread.join(timeout)
        self._end_process(timeout)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._send(line())
            except Exception:
                self.failed += 1
                _LOGGER.warning("shadow: a request could not be handed on (%d so far)", self.failed, exc_info=True)
                self._end_process(timeout=1)
                self._stop.wait(self.pause)

    def _send(self, line: bytes) -> None:
        if self._process is None:
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, cwd=self.root)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICE)
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()
        self.sent += 1

    def _end_process(self, timeout: float) -> None:
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


def shadow_settings(params: ServeShadow, settings: Settings) -> ServeShadow:
    """The shadow of params.yaml, overridden by the environment: the parameters of a bento cannot be changed."""
    overrides = {"model": settings.shadow, "share": settings.shadow_share, "folder": settings.shadow_log}
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in overrides.items()}
    return params.model_copy(update={name: value for name, value in chosen.items() if value is not None})


def open_shadow(settings: ServeShadow, root: Path, *, sources: ModelSources) -> ShadowClient | None:
    """The client of the shadow model that `settings` name, or None; a relative folder is under `root`.

    The shadow model reads the online store and the events of the service, whose `sources` are given.
    """
    if settings.model is None:
        return None
    command = [sys.executable, "-m", WORKER, "--model", str(root / settings.model), "--online", str(sources.online)]
    command += ["--redis", sources.redis] if sources.redis else []
    command += ["--events", str(sources.events)] if sources.events else []
    command += ["--folder", str(root / settings.folder)] if settings.folder else []
    return ShadowClient(command, settings.share, root=root)
