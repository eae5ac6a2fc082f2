"""Everything on schedule, on one machine, in one process: `python -m flows.ops.schedule` (or `make schedule`).

Starts a Prefect server where none answers (and restarts it, should it die), applies the automations, and serves every
deployment of prefect.yaml. A team registers the same deployments for workers instead: docs/operations.
"""

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
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
from flows.ops.automations import apply_automations
from flows.process.supervised import Supervised

STARTUP_SECONDS = 90.0  # that a server may take to answer


def deployments(path: Path = ROOT / "prefect.yaml") -> list[RunnerDeployment]:
    """The deployments that prefect.yaml declares, to be served by this process."""
    return [_deployment(declared) for declared in yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]]


def _deployment(declared: dict[str, Any]) -> RunnerDeployment:
    flow: Flow[..., Any] = load_flow_from_entrypoint(declared["entrypoint"])
    return flow.to_deployment(  # type: ignore[return-value]
        name=declared["name"],
        description=declared["description"],
        tags=declared["tags"],
        schedules=[_schedule(one) for one in declared["schedules"]],
        parameters=declared.get("parameters", {}),
        concurrency_limit=ConcurrencyLimitConfig(**declared["concurrency_limit"]),
    )


def _schedule(declared: dict[str, Any]) -> Schedule:
    if "interval" in declared:
        return Interval(declared["interval"], timezone=declared["timezone"])  # seconds
    return Cron(declared["cron"], timezone=declared["timezone"])


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The API address of a Prefect server that answers: that of the settings, else one of our own on its port."""
    url = get_current_settings().api.url or f"http://127.0.0.1:{get_current_settings().server.api.port}/api"
    if _answers(url):
        yield url
        return
    port = url.split(":")[-1].split("/")[0]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    supervised = Supervised(command, environment=os.environ | {"PREFECT_SERVER_API_PORT": port})
    try:
        _wait_for(url, supervised.process)
        yield url
    finally:
        supervised.stop()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the Prefect server did not come up at {url}: its log above has the reason; is the port in use?")
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Serve until interrupted."""
    argparse.ArgumentParser(prog="python -m flows.ops.schedule", description=__doc__).parse_args()
    os.chdir(ROOT)
    with server() as url:
        os.environ["PREFECT_API_URL"] = url  # for the processes of the runs
        with temporary_settings({PREFECT_API_URL: url}):
            for name in asyncio.run(apply_automations()):
                print(f"automation: {name}")
            print(f"server: {url.removesuffix('/api')}", flush=True)
            serve(*deployments())


if __name__ == "__main__":
    main()
