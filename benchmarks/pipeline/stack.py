"""A Prefect server and a worker for one workspace, as real processes with their own database and folders.

For the slow tests and the chaos benchmark. Both are restarted when they die, as `restart: unless-stopped` or systemd
does it.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flows.process.supervised import Supervised

RETRY_SECONDS = 60.0  # within which a first crash is scheduled again
PREFECT = [sys.executable, "-m", "prefect"]
BUSY = 503  # HTTP status
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Stack:
    """A server and a worker for `workspace`; `home` has Prefect's database and the logs of the processes."""

    def __init__(self, workspace: Path, home: Path, **environment: str) -> None:
        self.workspace, self.home, self.port = workspace, home, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = (
            os.environ
            | {
                "PATH": path,
                "PREFECT_HOME": str(home),
                "PREFECT_API_URL": self.url,
                "PYTHONPATH": "",
                "PREFECT_SERVER_API_PORT": str(self.port),
                "PWD": str(workspace),
                "OMP_NUM_THREADS": "1",
                "DO_NOT_TRACK": "1",
            }
            | environment
        )
        self.processes: dict[str, Supervised] = {}

    def start(self, name: str, command: list[str]) -> Supervised:
        """Start `command` in the workspace under `name`, and restart it whenever it dies."""
        self.processes[name] = Supervised(
            command, cwd=self.workspace, environment=self.environment, log=self.home / f"{name}.log"
        )
        return self.processes[name]

    def start_server(self) -> None:
        """`prefect server start`; returns when it answers."""
        self.start("server", [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)])
        wait_for(lambda: self.get("health"), bool)

    def start_worker(self) -> None:
        """As docs/operations/index.md describes it: pool, automations, deployments, worker."""
        self.run(*PREFECT, "work-pool", "create", "hinet", "--type", "process", "--overwrite")
        self.run(sys.executable, "-m", "flows.ops.automations")
        self.run(*PREFECT, "--no-prompt", "deploy", "--all")
        self.start("worker", [*PREFECT, "worker", "start", "--pool", "hinet"])

    def run(self, *command: str) -> str:
        """The output of a command in the workspace; raises RuntimeError where it fails."""
        done = subprocess.run(
            command, cwd=self.workspace, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def get(self, path: str) -> Any:
        """The answer of the server."""
        return self._send("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        """The answer of the server to JSON."""
        return self._send("POST", path, body)

    def put(self, path: str, **body: Any) -> None:
        """Replace an object on the server by JSON."""
        self._send("PUT", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """Tries again where the server is busy (503), as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        for pause in (1, 2, 4, 8):
            try:
                return answer_to(request)
            except urllib.error.HTTPError as error:
                if error.code != BUSY:
                    raise
            time.sleep(pause)
        return answer_to(request)

    def run_now(self, deployment: str, **parameters: Any) -> str:
        """Start a run of `flow/name` by the API; its id."""
        number = self.get(f"deployments/name/{deployment}")["id"]
        created = self.post(f"deployments/{number}/create_flow_run", parameters=parameters)
        return str(created["id"])

    def states(self, run: str) -> list[str]:
        """The names of the states of a run, the oldest first."""
        states = self.get(f"flow_run_states/?flow_run_id={run}")
        return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]

    def ended(self, run: str, seconds: float) -> dict[str, Any]:
        """The run, when it is in a final state that no retry follows."""
        over = self._when(run, lambda it: it["state"]["type"] in FINAL, seconds)
        if over["state"]["type"] == "CRASHED" and over["run_count"] < 2:
            with contextlib.suppress(TimeoutError):
                self._when(run, lambda it: it["state"]["type"] != "CRASHED", RETRY_SECONDS)
                return self.ended(run, seconds)
        return over

    def _when(self, run: str, is_done: Callable[[Any], bool], seconds: float) -> dict[str, Any]:
        state: dict[str, Any] = wait_for(lambda: self.get(f"flow_runs/{run}"), is_done, seconds)
        return state

    def stop(self) -> None:
        """End everything, the server last."""
        for name in sorted(self.processes, reverse=True):
            self.processes[name].stop()


@contextlib.contextmanager
def stack(workspace: Path, home: Path, **environment: str) -> Iterator[Stack]:
    """A Stack with its server running; all its processes have ended afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    made = Stack(workspace, home, **environment)
    try:
        made.start_server()
        yield made
    finally:
        made.stop()


def answer_to(request: urllib.request.Request) -> Any:
    """The JSON of the answer to a request."""
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def free_port() -> int:
    """A TCP port that is free just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(read: Callable[[], Any], is_done: Callable[[Any], bool], seconds: float = 120) -> Any:
    """The first value that is done; an OSError while reading is tried again. Raises TimeoutError."""
    deadline, value = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if is_done(value := read()):
                return value
        time.sleep(0.5)
    raise TimeoutError(f"not within {seconds:g} seconds; the last value: {str(value)[:500]}")
