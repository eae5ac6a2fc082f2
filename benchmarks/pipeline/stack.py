"""What runs by itself, as real processes with everything of their own: a Prefect server, a worker, a workspace.

For the slow tests and for chaos. Server and worker are kept alive, as `restart: unless-stopped` or systemd does it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BACK_SECONDS = 3.0  # until a supervisor starts again what died
AGAIN_SECONDS = 60.0  # in which a first crash has to be scheduled again
PREFECT = [sys.executable, "-m", "prefect"]
BUSY = 503
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Kept:
    """A process that is started again whenever it dies, until it is stopped; its output goes to `log`."""

    def __init__(self, command: list[str], *, cwd: Path, environment: dict[str, str], log: Path) -> None:
        self.command, self.cwd, self.environment, self.log = command, cwd, environment, log
        self.stopped = threading.Event()
        self.process = self._start()
        self.thread = threading.Thread(target=self._keep, daemon=True)
        self.thread.start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command, cwd=self.cwd, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _keep(self) -> None:
        while not self.stopped.is_set():
            self.process.wait()
            if not self.stopped.wait(BACK_SECONDS):
                self.process = self._start()

    def stop(self, seconds: float = 30) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        self.stopped.set()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.thread.join(BACK_SECONDS)


class Stack:
    """A server and a worker for `workspace`; `home` holds Prefect's database and what the processes said."""

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
        self.kept: dict[str, Kept] = {}

    def start(self, name: str, command: list[str]) -> Kept:
        """Start `command` in the workspace under `name`, and keep it alive."""
        self.kept[name] = Kept(command, cwd=self.workspace, environment=self.environment, log=self.home / f"{name}.log")
        return self.kept[name]

    def start_server(self) -> None:
        """`prefect server start`, until it answers."""
        self.start("server", [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self.port)])
        wait_for(lambda: self.get("health"), bool)

    def start_worker(self) -> None:
        """What docs/operations/index.md says to do for a worker: pool, automations, deployments, worker."""
        self.run(*PREFECT, "work-pool", "create", "hinet", "--type", "process", "--overwrite")
        self.run(sys.executable, "-m", "flows.ops.automations")
        self.run(*PREFECT, "--no-prompt", "deploy", "--all")
        self.start("worker", [*PREFECT, "worker", "start", "--pool", "hinet"])

    def run(self, *command: str) -> str:
        """What a command in the workspace says; raises where it fails."""
        done = subprocess.run(
            command, cwd=self.workspace, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def get(self, path: str) -> Any:
        """What the server answers."""
        return self._send("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        """What the server answers to JSON."""
        return self._send("POST", path, body)

    def put(self, path: str, **body: Any) -> None:
        """Replace what is there by JSON."""
        self._send("PUT", path, body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """Asks again where the server is busy (503), as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/{path}", data, {"Content-Type": "application/json"}, method=method
        )
        for pause in (1, 2, 4, 8):
            try:
                return answered(request)
            except urllib.error.HTTPError as error:
                if error.code != BUSY:
                    raise
            time.sleep(pause)
        return answered(request)

    def run_now(self, deployment: str, **parameters: Any) -> str:
        """Start a run of `flow/name` by the API; its id."""
        found = self.get(f"deployments/name/{deployment}")
        created = self.post(f"deployments/{found['id']}/create_flow_run", parameters=parameters)
        return str(created["id"])

    def states(self, run: str) -> list[str]:
        """The names of the states that a run has been in, the oldest first."""
        found = self.get(f"flow_run_states/?flow_run_id={run}")
        return [state["name"] for state in sorted(found, key=lambda state: state["timestamp"])]

    def ended(self, run: str, seconds: float) -> dict[str, Any]:
        """The run, when it is over: in a final state, and not one that it is tried again after."""
        over = self._when(run, lambda it: it["state"]["type"] in FINAL, seconds)
        if over["state"]["type"] == "CRASHED" and over["run_count"] < 2:
            with contextlib.suppress(TimeoutError):
                self._when(run, lambda it: it["state"]["type"] != "CRASHED", AGAIN_SECONDS)
                return self.ended(run, seconds)
        return over

    def _when(self, run: str, enough: Callable[[Any], bool], seconds: float) -> dict[str, Any]:
        found: dict[str, Any] = wait_for(lambda: self.get(f"flow_runs/{run}"), enough, seconds)
        return found

    def stop(self) -> None:
        """End everything, the server last."""
        for name in sorted(self.kept, reverse=True):
            self.kept[name].stop()


@contextlib.contextmanager
def stack(workspace: Path, home: Path, **environment: str) -> Iterator[Stack]:
    """A Stack with its server running; nothing of it is left afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    made = Stack(workspace, home, **environment)
    try:
        made.start_server()
        yield made
    finally:
        made.stop()


def answered(request: urllib.request.Request) -> Any:
    """The JSON of an answer."""
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(question: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 120) -> Any:
    """The answer, as soon as there is one that is enough; nobody answering is no answer."""
    until, found = time.monotonic() + seconds, None
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if enough(found := question()):
                return found
        time.sleep(0.5)
    raise TimeoutError(f"not within {seconds:g} seconds; the last answer: {str(found)[:500]}")
