"""Everything on schedule, on one machine, in one process: `python -m flows.schedule` (or `make schedule`).

Starts a Prefect server where none answers, brings the automations up, and serves every deployment of prefect.yaml. A
team registers the same deployments for workers instead: docs/operations.md.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.flows import load_flow_from_entrypoint
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows.automations import bring_up

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 90.0  # seconds that a server may take to come up


def deployments(path: Path = ROOT / "prefect.yaml") -> list[RunnerDeployment]:
    """Those that prefect.yaml declares, to be served by this process."""
    return [_deployment(plain) for plain in yaml.safe_load(path.read_text())["deployments"]]


def _deployment(plain: dict[str, Any]) -> RunnerDeployment:
    found: Flow[..., Any] = load_flow_from_entrypoint(plain["entrypoint"])
    return found.to_deployment(  # type: ignore[return-value]
        name=plain["name"], description=plain["description"], tags=plain["tags"],
        schedules=[Cron(one["cron"], timezone=one["timezone"]) for one in plain["schedules"]],
        concurrency_limit=ConcurrencyLimitConfig(**plain["concurrency_limit"]),
    )  # fmt: skip


@contextmanager
def server() -> Iterator[str]:
    """The address of a Prefect server that answers: the one of the settings, else one of our own on its port."""
    url = get_current_settings().api.url or f"http://127.0.0.1:{get_current_settings().server.api.port}/api"
    if _answers(url):
        yield url
        return
    port = url.split(":")[-1].split("/")[0]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    started = subprocess.Popen(command, env=os.environ | {"PREFECT_SERVER_API_PORT": port}, start_new_session=True)
    try:
        _wait_for(url, started)
        yield url
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait()


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
    parser = argparse.ArgumentParser(prog="python -m flows.schedule", description=__doc__)
    parser.add_argument("--notify", type=UUID, help="id of a notification block that failures are told to")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    with server() as url:
        os.environ["PREFECT_API_URL"] = url  # for the processes of the runs
        with temporary_settings({PREFECT_API_URL: url}):
            for name in asyncio.run(bring_up(chosen.notify)):
                print(f"automation: {name}")
            print(f"server: {url.removesuffix('/api')}", flush=True)
            serve(*deployments())


if __name__ == "__main__":
    main()
