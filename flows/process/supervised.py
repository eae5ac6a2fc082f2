"""A process that is restarted whenever it dies, as a supervisor such as systemd does."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path

RESTART_SECONDS = 3.0  # between the end of the process and its restart


class Supervised:
    """The process of `command`, in its own process group; it is restarted until it is stopped.

    Its output goes to the file `log`, or to that of this process.
    """

    def __init__(
        self, command: list[str], *, environment: Mapping[str, str], cwd: Path | None = None, log: Path | None = None
    ) -> None:
        self.command, self.environment, self.cwd, self.log = command, environment, cwd, log
        self.stopped = threading.Event()
        self.process = self._start()
        self.thread = threading.Thread(target=self._supervise, daemon=True)
        self.thread.start()

    def stop(self, seconds: float = 30) -> None:
        """End it: SIGTERM, and SIGKILL to its process group where it has not ended after `seconds`."""
        self.stopped.set()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.thread.join(RESTART_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as opened:
            log = opened.enter_context(self.log.open("ab")) if self.log else None
            return subprocess.Popen(
                self.command, cwd=self.cwd, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _supervise(self) -> None:
        while not self.stopped.is_set():
            status = self.process.wait()
            if not self.stopped.wait(RESTART_SECONDS):
                print(f"`{' '.join(self.command)}` ended with {status}: restarted", flush=True)
                self.process = self._start()
