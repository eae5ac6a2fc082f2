"""The champion's service under constant requests, and what is broken in a workspace after a run."""

import json
import os
import sys
import threading
import urllib.request
from types import TracebackType
from typing import Any, Self

from benchmarks.pipeline.small_project import outputs_are_whole
from benchmarks.pipeline.stack import Stack, free_port, wait_for
from common.errors import ModelError
from common.files import PARTIAL
from common.paths import CHAMPION, FLOWS, ONLINE_STORE
from flows.process.supervised import Supervised
from models.model_folder import read_model

REQUEST: dict[str, Any] = {"user_id": 1, "scenario": "search", "candidates": [3, 1, 2]}
PERIOD_SECONDS = 0.5


class Watch:
    """Serves the champion and sends it two requests a second: how many were answered, and how many were not."""

    def __init__(self, stack: Stack) -> None:
        self.answers = self.missed = 0
        self.port, self.stopped = free_port(), threading.Event()
        bento = (stack.workspace / CHAMPION).resolve() / "bento"
        self.service = Supervised(
            [sys.executable, "-m", "bentoml", "serve", str(bento), "--port", str(self.port)],
            cwd=stack.home,
            environment=self._environment(stack),
            log=stack.home / "service.log",
        )
        self.thread = threading.Thread(target=self._send_requests, daemon=True)

    def _environment(self, stack: Stack) -> dict[str, str]:
        """The real clock, and the store that the pipeline writes."""
        return stack.environment | {
            "HINET_ONLINE_STORE": str(stack.workspace / ONLINE_STORE),
            "BENTOML_HOME": str(stack.home / "bentoml"),
            "BENTOML_DO_NOT_TRACK": "True",
            "LD_PRELOAD": "",
        }

    def __enter__(self) -> Self:
        """Wait for its first answer."""
        try:
            wait_for(self._answers, bool, 300)
        except BaseException:
            self.service.stop()
            raise
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the service."""
        self.stopped.set()
        self.thread.join()
        self.service.stop()

    def _send_requests(self) -> None:
        while not self.stopped.wait(PERIOD_SECONDS):
            try:
                answered = self._answers()
            except OSError:
                answered = False
            self.answers, self.missed = self.answers + answered, self.missed + (not answered)

    def _answers(self) -> bool:
        url, body = f"http://127.0.0.1:{self.port}/rank", json.dumps(REQUEST).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return sorted(json.loads(answer.read())["item_ids"]) == sorted(REQUEST["candidates"])


def damage(stack: Stack) -> list[str]:
    """What is not whole in the workspace: stages, the champion, files that are half written."""
    root = stack.workspace
    status = json.loads(stack.run(sys.executable, "-m", "dvc", "status", "--json"))
    damaged = [f"dvc status: {name}" for name in status]
    if (root / "tiny").exists() and not outputs_are_whole(root):
        damaged.append("a stage wrote a part of its output")
    try:
        read_model(root / CHAMPION / "model")
    except (ModelError, OSError) as error:
        damaged.append(f"champion: {error}")
    partial = [*root.rglob(f"*{PARTIAL}"), *(root / FLOWS).glob(".*"), *root.glob(".dvc/tmp/*.new")]
    return damaged + [f"half-written: {path.relative_to(root)}" for path in partial if os.path.lexists(path)]
