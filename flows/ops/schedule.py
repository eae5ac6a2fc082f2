"""Everything on schedule, on one machine, in one process: `python -m flows.ops.schedule` (or `make schedule`).

Starts a Prefect server where none answers (and again, should it die), brings the automations up, and serves every
deployment of prefect.yaml. A team registers the same deployments for workers instead: docs/operations/index.md.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron, Interval, Schedule
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from common.paths import ROOT
from flows.ops.automations import bring_up

PATIENCE = 90.0  # seconds that a server may take to come up
BACK_SECONDS = 3.0  # until it is started again after it died


def deployments(path: Path = ROOT / "prefect.yaml") -> list[RunnerDeployment]:
    """Those that prefect.yaml declares, to be served by this process."""
    return [_deployment(plain) for plain in yaml.safe_load(path.read_text())["deployments"]]


def _deployment(plain: dict[str, Any]) -> RunnerDeployment:
    found: Flow[..., Any] = load_flow_from_entrypoint(plain["entrypoint"])
    return found.to_deployment(  # type: ignore[return-value]
        name=plain["name"],
        description=plain["description"],
        tags=plain["tags"],
        schedules=[_schedule(one) for one in plain["schedules"]],
        parameters=plain.get("parameters", {}),
        concurrency_limit=ConcurrencyLimitConfig(**plain["concurrency_limit"]),
    )


def _schedule(plain: dict[str, Any]) -> Schedule:
    if "interval" in plain:
        return Interval(plain["interval"], timezone=plain["timezone"])  # seconds
    return Cron(plain["cron"], timezone=plain["timezone"])


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a Prefect server that answers: the one of the settings, else one of our own on its port."""
    url = get_current_settings().api.url or f"http://127.0.0.1:{get_current_settings().server.api.port}/api"
    if _answers(url):
        yield url
        return
    port = url.split(":")[-1].split("/")[0]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    kept = Kept(command, os.environ | {"PREFECT_SERVER_API_PORT": port})
    try:
        _wait_for(url, kept.process)
        yield url
    finally:
        kept.stop()


class Kept:
    """A process that is started again when it dies: without the server, no run starts and none can say how it ended."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.command, self.environment, self.stopped = command, environment, threading.Event()
        self.process = self._start()
        threading.Thread(target=self._keep, daemon=True).start()

    def stop(self) -> None:
        """End it, with all that it started."""
        self.stopped.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env=self.environment, start_new_session=True)

    def _keep(self) -> None:
        while not self.stopped.is_set():
            status = self.process.wait()
            if not self.stopped.wait(BACK_SECONDS):
                print(f"the Prefect server ended with {status}: started again", flush=True)
                self.process = self._start()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"the Prefect server did not come up at {url}: its reason stands above; is the port taken?")
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m flows.ops.schedule", description=__doc__)
    parser.parse_args()
    os.chdir(ROOT)
    with server() as url:
        os.environ["PREFECT_API_URL"] = url  # for the processes of the runs
        with temporary_settings({PREFECT_API_URL: url}):
            for name in asyncio.run(bring_up()):
                print(f"automation: {name}")
            print(f"server: {url.removesuffix('/api')}", flush=True)
            serve(*deployments())


if __name__ == "__main__":
    main()
