"""Unattended flows: a real Prefect server, worker and schedule; crashes are detected, retried and notified."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.pipeline.stack import Stack, stack, wait_for
from common.yaml_file import dump_yaml, read_yaml
from flows.ops.automations import LATE
from tests.support.flow_harness import write_repository
from tests.support.notifications import webhook
from tests.support.project_clone import clone

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = {
    "log": {"cmd": "cat raw > log", "deps": ["raw"], "outs": ["log"]},
    "page": {"cmd": "sh page.sh", "deps": ["log", "page.sh"], "outs": ["page"], "desc": "A page of the log"},
}
LATE_SOON = {f"PREFECT_SERVER_SERVICES_LATE_RUNS_{name}": "2" for name in ("AFTER_SECONDS", "LOOP_SECONDS")}
HOLD = "touch begun; while test -e hold; do sleep 0.2; done; cat log > page"


def project(folder: Path, **schedule: object) -> Path:
    """The project with a pipeline of two stages, and `pipeline/nightly` as its only deployment."""
    clone(folder)
    write_repository(folder, **STAGES)
    (folder / "raw").write_text("words\n")
    (folder / "page.sh").write_text(HOLD)
    plain = read_yaml(folder / "prefect.yaml")
    nightly = next(one for one in plain["deployments"] if one["name"] == "nightly")
    nightly |= {"schedules": [{"timezone": "UTC"} | schedule], "parameters": {"release": False}}
    (folder / "prefect.yaml").write_text(dump_yaml(plain | {"deployments": [nightly]}), encoding="utf-8")
    return folder.resolve()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, list[dict[str, Any]]]]:
    """A server, a worker, the deployments and the automations, and the notifications that were sent."""
    folder = tmp_path_factory.mktemp("unattended")
    workspace = project(folder / "project", cron="0 2 * * *")
    with webhook() as (url, posted), stack(workspace, folder / "prefect", **LATE_SOON) as made:
        made.run(sys.executable, "-m", "flows.ops.notify", "--name", "team", "--url", url)
        parameters = read_yaml(workspace / "params.yaml")
        parameters["flows"]["notify"] = "custom-webhook/team"
        (workspace / "params.yaml").write_text(dump_yaml(parameters), encoding="utf-8")
        made.start_worker()
        yield made, posted


def begin(made: Stack, day: str) -> str:
    """A run that has begun its stage and stays in it until the file `hold` is removed."""
    for name, there in (("begun", False), ("hold", True)):
        (made.workspace / name).touch() if there else (made.workspace / name).unlink(missing_ok=True)
    with (made.workspace / "raw").open("a") as raw:
        raw.write(f"{day}\n")
    run = made.run_now("pipeline/nightly", as_of=day, release=False)
    wait_for((made.workspace / "begun").exists, bool)
    return run


def processes(made: Stack, word: str) -> list[psutil.Process]:
    """The processes of the workspace whose command line contains `word`."""
    matching = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(made.workspace) and word in " ".join(process.cmdline()):
                matching.append(process)
        except psutil.Error:
            continue
    return matching


def whole(made: Stack) -> bool:
    """Whether every stage is up to date and the page is what the log says."""
    status = json.loads(made.run(sys.executable, "-m", "dvc", "status", "--json"))
    return not status and (made.workspace / "page").read_text() == (made.workspace / "raw").read_text()


def test_a_run_by_its_schedule_leaves_its_table(tmp_path: Path) -> None:
    """Only `make schedule`: a run every 15 seconds, its table as an artifact; the next run is skipped."""
    workspace = project(tmp_path / "project", interval=15)
    made = Stack(workspace, tmp_path / "prefect")
    made.home.mkdir()
    schedule = made.start("schedule", [sys.executable, "-m", "flows.ops.schedule"])
    try:
        runs = wait_for(lambda: finished(made), bool, 240)
        assert (runs[0]["state"]["type"], runs[0]["state"]["message"]) == ("COMPLETED", "2 ran")
        assert runs[0]["created_by"]["type"] == "SCHEDULE"
        (table,) = made.post("artifacts/filter", artifacts={"flow_run_id": {"any_": [runs[0]["id"]]}})
        assert table["key"] == "stages"
        assert [(row["stage"], row["state"]) for row in json.loads(table["data"])] == [("log", "ran"), ("page", "ran")]
        killed = psutil.Process(schedule.process.pid).children()
        for process in killed:
            if "server" in process.cmdline():
                process.kill()  # it is restarted, with the same database
        wait_for(lambda: len(finished(made)) > 1, bool, 240)
        assert finished(made)[1]["state"]["name"] == "Skipped"
    finally:
        made.stop()
    assert not processes(made, "prefect")


def finished(made: Stack) -> list[dict[str, Any]]:
    """The runs that ended, the oldest first."""
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    return list(made.post("flow_runs/filter", sort="EXPECTED_START_TIME_ASC", flow_runs=ended))


def test_a_killed_stage_is_a_failure_with_its_cause(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """Kill -9 of the stage's process: the cause in one line, the command in the next, and a notification of both."""
    made, posted = running
    run = begin(made, "2026-01-10")
    for process in processes(made, "page.sh"):
        if process.cmdline()[:1] == ["sh"]:
            process.kill()
    state = made.ended(run, 180)["state"]
    assert state["type"] == "FAILED"
    cause, closer = state["message"].splitlines()
    assert cause == "page was killed (signal 9): did the machine run out of memory?"
    assert closer == "look closer: dvc repro --single-item page"
    notification = {"subject": "pipeline: failed", "body": state["message"]}
    wait_for(lambda: posted, lambda messages: notification in messages)
    again(made, "2026-01-11")


def again(made: Stack, day: str) -> None:
    """The next run completes, and leaves everything whole."""
    (made.workspace / "hold").unlink(missing_ok=True)
    assert made.ended(made.run_now("pipeline/nightly", as_of=day, release=False), 300)["state"]["type"] == "COMPLETED"
    assert whole(made)


def test_a_killed_worker_does_not_stop_its_run(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """The run goes on and completes; the worker is restarted and takes the next run."""
    made, _ = running
    run = begin(made, "2026-01-12")
    made.processes["worker"].process.kill()
    (made.workspace / "hold").unlink()
    assert made.ended(run, 300)["state"]["type"] == "COMPLETED"
    again(made, "2026-01-13")


def test_a_killed_server_does_not_stop_a_run(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """Kill -9 of the server in the middle of a stage: restarted, it knows the run, and gets its final state."""
    made, _ = running
    run = begin(made, "2026-01-14")
    lease = made.get(f"flow_runs/{run}")["state"]["state_details"]["deployment_concurrency_lease_id"]
    os.killpg(made.processes["server"].process.pid, signal.SIGKILL)
    wait_for(lambda: made.get("health"), bool)
    made.post(f"v2/concurrency_limits/leases/{lease}/renew", lease_duration=300)  # else the run would end itself
    (made.workspace / "hold").unlink()
    assert made.ended(run, 180)["state"]["type"] == "COMPLETED"
    again(made, "2026-01-15")


def test_a_dead_run_crashes_is_retried_once_and_notified(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """Worker and run killed at once: without a heartbeat it is Crashed, notified and retried; finished stages stay."""
    made, posted = running
    run = begin(made, "2026-01-16")
    flows = processes(made, "prefect.engine")
    assert flows
    for process in (made.processes["worker"].process, *flows):
        process.kill()
    (made.workspace / "hold").unlink()
    wait_for(lambda: made.states(run), lambda states: "Crashed" in states, 200)
    state = wait_for(lambda: made.get(f"flow_runs/{run}"), lambda it: it["state"]["type"] == "COMPLETED", 300)
    assert state["run_count"] == 2
    way = [name for name in made.states(run) if name in ("Crashed", "AwaitingRetry", "Completed")]
    assert list(dict.fromkeys(way)) == ["Crashed", "AwaitingRetry", "Completed"]
    notifications = wait_for(lambda: [one for one in posted if one["subject"] == "pipeline Crashed"], bool)
    assert len(notifications) == 1
    assert "no heartbeat" in notifications[0]["body"]
    assert f"Look closer: prefect flow-run logs {run}" in notifications[0]["body"]
    assert whole(made)


def test_a_crash_that_is_reported_twice_is_notified_once(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """Only the flow is killed: the worker reports it, perhaps twice; one notification, and the run completes."""
    made, posted = running
    posted.clear()
    run = begin(made, "2026-01-17")
    for process in wait_for(lambda: processes(made, "prefect.engine"), bool):
        process.kill()
    (made.workspace / "hold").unlink()
    wait_for(lambda: made.get(f"flow_runs/{run}"), lambda it: it["state"]["type"] == "COMPLETED", 300)
    assert [one["subject"] for one in posted] == ["pipeline Crashed"]
    assert "Crashed" in made.states(run)


def test_one_at_a_time(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """A second run of the deployment waits for its slot, a run by hand for the workspace; only one does the work."""
    made, _ = running
    first = begin(made, "2026-01-18")
    second = made.run_now("pipeline/nightly", as_of="2026-01-18", release=False)
    command = [sys.executable, "-m", "flows.pipeline", "--as-of", "2026-01-18", "--no-release"]
    with subprocess.Popen(command, cwd=made.workspace, env=made.environment, stdout=subprocess.PIPE, text=True) as hand:
        wait_for(lambda: made.states(second), lambda states: "AwaitingConcurrencySlot" in states)
        assert hand.poll() is None
        (made.workspace / "hold").unlink()
        ended = [made.ended(run, 300)["state"] for run in (first, second)]
        output, _ = hand.communicate(timeout=300)
    assert {state["type"] for state in ended} == {"COMPLETED"}
    assert ended[0]["message"] == "2 ran"
    assert ended[1]["message"] == "2026-01-18 is done"
    assert output.strip().endswith("2026-01-18 is done")


def test_an_outdated_late_run_is_cancelled(running: tuple[Stack, list[dict[str, Any]]]) -> None:
    """Without a worker a run is Late, and after a while (here ten seconds instead of six hours) it is cancelled."""
    made, _ = running
    made.processes.pop("worker").stop()
    (rule,) = [one for one in made.post("automations/filter") if "late runs" in one["name"]]
    assert rule["trigger"]["within"] == LATE.total_seconds()
    quick = {name: rule[name] for name in ("name", "description", "enabled", "actions")}
    made.put(f"automations/{rule['id']}", **quick, trigger=rule["trigger"] | {"within": 10})
    run = made.run_now("pipeline/nightly", as_of="2026-01-20", release=False)
    ended = wait_for(lambda: made.get(f"flow_runs/{run}"), lambda it: it["state"]["type"] == "CANCELLED")
    assert ended["run_count"] == 0
    assert "Late" in made.states(run)
