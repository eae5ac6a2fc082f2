"""What runs when: prefect.yaml is the only list of deployments; the server's own rules; one process serves it all."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from common.paths import ROOT
from flows.ops.automations import HEARTBEAT, MISSED, automations
from flows.ops.schedule import deployments

BLOCK = UUID("5b9d3b3e-6d2e-4f7c-8d3f-0d5d5a2d6a11")


def test_what_is_served_is_what_is_deployed() -> None:
    """Every deployment of prefect.yaml, with its schedule and its limit of one run at a time."""
    declared = {one["name"]: one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    served = {one.name: one for one in deployments()}
    assert set(served) == set(declared) == {"nightly", "hourly", "daily"}
    for name, one in served.items():
        (schedule,) = one.schedules or []
        assert schedule.schedule.cron == declared[name]["schedules"][0]["cron"]  # type: ignore[union-attr]
        assert one.concurrency_limit == 1
        assert one.entrypoint.endswith(declared[name]["entrypoint"].split("/")[-1])  # type: ignore[union-attr]


def test_a_dead_run_is_missed_after_three_heartbeats() -> None:
    """The settings of this folder make runs send one as often as the automation counts on."""
    settings = (ROOT / "prefect.toml").read_text()
    assert f"heartbeat_frequency = {HEARTBEAT}" in settings
    assert MISSED >= 3 * HEARTBEAT


def test_crashes_are_told_only_where_there_is_somebody_to_tell() -> None:
    """Without a block three automations, with one the fourth."""
    assert len(list(automations(None))) == 3
    assert [one.name for one in automations(BLOCK)][-1] == "hinet: a crash is told"


@pytest.mark.slow
def test_one_process_schedules_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """A server, the automations, three deployments with runs on their schedules; a signal ends all of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changed = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_API_PORT": str(port), "PREFECT_API_URL": ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.ops.schedule"], cwd=ROOT, env=os.environ | changed, start_new_session=True
    )
    try:
        runs = wait_for(lambda: ask(port, "flow_runs"), lambda found: len(found) >= 9)
        assert {run["expected_start_time"][14:16] for run in runs} == {"00", "15", "30"}
        assert {one["status"] for one in ask(port, "deployments")} == {"READY"}
        assert len(ask(port, "automations")) == 3
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with pytest.raises(OSError):
        ask(port, "flow_runs")


def ask(port: int, what: str) -> list[dict[str, Any]]:
    """All that the server has of something."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{what}/filter", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    return found


def wait_for(question: Callable[[], Any], enough: Callable[[Any], bool], seconds: float = 120) -> Any:
    """The answer, as soon as there is one that is enough."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if enough(found := question()):
                return found
        except OSError:
            pass
        time.sleep(1)
    raise AssertionError(f"not within {seconds} seconds")
