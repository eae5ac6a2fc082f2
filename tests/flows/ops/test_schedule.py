"""The schedule: prefect.yaml is the only list of deployments; automations; one process serves everything."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from benchmarks.pipeline.stack import free_port, wait_for
from common.paths import ROOT
from flows.ops.automations import HEARTBEAT_SECONDS, MISSED_SECONDS, automations
from flows.ops.schedule import deployments

BLOCK = UUID("5b9d3b3e-6d2e-4f7c-8d3f-0d5d5a2d6a11")


@pytest.mark.integration
def test_what_is_served_is_what_is_deployed() -> None:
    """Every deployment of prefect.yaml, with its schedule and its limit of one run at a time."""
    declared = {one["name"]: one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    served = {one.name: one for one in deployments()}
    assert set(served) == set(declared) == {"nightly", "hourly", "collected", "daily"}
    for name, one in served.items():
        (schedule,) = one.schedules or []
        assert schedule.schedule.cron == declared[name]["schedules"][0]["cron"]  # type: ignore[union-attr]
        assert one.concurrency_limit == 1
        assert one.entrypoint.endswith(declared[name]["entrypoint"].split("/")[-1])  # type: ignore[union-attr]


@pytest.mark.integration
def test_a_dead_run_is_missed_after_three_heartbeats() -> None:
    """The settings of this folder have the interval that the automation expects."""
    settings = (ROOT / "prefect.toml").read_text()
    assert f"heartbeat_frequency = {HEARTBEAT_SECONDS}" in settings
    assert MISSED_SECONDS >= 3 * HEARTBEAT_SECONDS


@pytest.mark.integration
def test_crashes_are_notified_only_where_there_is_a_block() -> None:
    """Without a block there are three automations, with one a fourth."""
    assert len(list(automations(None))) == 3
    assert [one.name for one in automations(BLOCK)][-1] == "hinet: a crash is notified"


@pytest.mark.process
@pytest.mark.slow
def test_one_process_schedules_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """A server, the automations, four deployments with runs on their schedules; a signal ends all of it."""
    port = free_port()
    changed = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_API_PORT": str(port), "PREFECT_API_URL": ""}
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.ops.schedule"], cwd=ROOT, env=os.environ | changed, start_new_session=True
    )
    try:
        runs = wait_for(lambda: objects(port, "flow_runs"), lambda runs: len(runs) >= 9)
        assert {run["expected_start_time"][14:16] for run in runs} == {"00", "15", "30"}
        assert {one["status"] for one in objects(port, "deployments")} == {"READY"}
        assert len(objects(port, "automations")) == 3
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    with pytest.raises(OSError):
        objects(port, "flow_runs")


def objects(port: int, kind: str) -> list[dict[str, Any]]:
    """All objects of a kind on the server."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/{kind}/filter", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        read: list[dict[str, Any]] = json.loads(answer.read())
    return read
