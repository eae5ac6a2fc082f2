"""The flow `pipeline`: one run at a time, once for a date, and a failure that has the next command."""

import asyncio
import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import State
from prefect.client.orchestration import get_client

from common.exit_status import FAILED, REJECTED
from common.paths import ROOT, SERVING_STORE
from flows.pipeline import pipeline
from flows.process import python_module
from flows.workspace.lock import HOLDER, workspace_lock
from tests.support.flow_harness import newest_table, report_command, running, write_repository
from tests.support.notifications import write_params
from tests.support.stub_modules import Stub, stub_modules

pytestmark = pytest.mark.process

DAY = datetime.date(2026, 1, 17)


def run(as_of: datetime.date | None = DAY, **chosen: Any) -> State:
    """The final state of the pipeline in the current folder, as the server has it."""
    return asyncio.run(pipeline(as_of=as_of, **{"release": False} | chosen, return_state=True))


@pytest.fixture
def page(workspace: Path) -> Path:
    """A workspace with a pipeline of two stages."""
    write_repository(
        workspace,
        log={"cmd": "cat raw > log", "deps": ["raw"], "outs": ["log"]},
        page={"cmd": "sh page.sh", "deps": ["log", "page.sh"], "outs": ["page"]},
    )
    (workspace / "raw").write_text("words\n")
    (workspace / "page.sh").write_text("cat log > page")
    write_params(workspace, None)
    return workspace


@pytest.fixture
def log(workspace: Path) -> Path:
    """A workspace with a pipeline of one stage."""
    write_repository(workspace, log={"cmd": "cat raw > log", "deps": ["raw"], "outs": ["log"]})
    (workspace / "raw").write_text("words\n")
    write_params(workspace, None)
    return workspace


def test_a_date_is_done_once(server: None, page: Path) -> None:
    """The second run and an older date are skipped; `again` runs DVC once more."""
    assert run().message == "2 ran"
    state = run()
    assert (state.name, state.message) == ("Skipped", "2026-01-17 is done")
    assert run(DAY - datetime.timedelta(days=1)).message == "a date newer than 2026-01-16 is done"
    assert run(again=True).message == "2 cached"
    assert set(newest_table()) == {"log", "page"}


def test_a_training_that_begins_in_the_champion_needs_its_folder(server: None, log: Path) -> None:
    """Without it the run fails before any stage, and says what to set; a day of a full fit needs none."""
    state = run(full_fit_every=7)
    assert state.is_failed()
    assert "train.warm_start is data/warm_start: set it to artifacts/warm_start" in str(state.message)
    assert run(DAY + datetime.timedelta(days=1), full_fit_every=7).message == "1 ran"  # a Sunday


def test_the_day_is_that_of_the_schedule(server: None, log: Path) -> None:
    """Without a date, it is the day that the run was planned for."""
    run(None)
    today = datetime.datetime.now(datetime.UTC).date()
    assert run(today).message in (f"{today} is done", f"a date newer than {today} is done")  # or midnight passed


def test_a_failure_is_one_line_and_a_command(server: None, page: Path) -> None:
    """The error of the stage's report is the message of the flow run, and of the task run; the date is not done."""
    (page / "page.sh").write_text(f"{report_command('a.page', error='no words, expected 1')}; exit 1")
    state = run()
    assert state.is_failed()
    assert state.message == "a.page stopped: no words, expected 1\nlook closer: dvc repro --single-item page"
    assert "a.page stopped: no words, expected 1" in messages(state)
    (page / "page.sh").write_text("cat log > page")
    assert run().message == "1 cached, 1 ran"


def promotion(passed: bool) -> Stub:
    """A stub of the promotion that accepts or rejects the challenger."""
    rules = [{"name": "mean", "passed": passed, "sentence": "mean: +0.0100"}]
    status = 0 if passed else REJECTED
    return Stub(status=status, documents={"--verdict": {"tag": "abc", "passed": passed, "rules": rules}})


@pytest.mark.parametrize(
    ("passed", "name", "message"),
    [
        (True, "Completed", "1 ran; abc is the champion"),
        (False, "Rejected", "1 ran; abc is not released: mean: +0.0100"),
    ],
)
def test_the_new_model_challenges_the_champion(
    server: None, log: Path, monkeypatch: pytest.MonkeyPatch, passed: bool, name: str, message: str
) -> None:
    """After the stages; a rejected challenger is no failure, and the date is done."""
    commands: list[list[str]] = []
    monkeypatch.setattr(python_module, "run_reported", stub_modules(promotion(passed), commands=commands))
    state = run(release=True)
    assert (state.name, state.message, state.is_completed()) == (name, message, True)
    assert [words[2] for words in commands] == ["release.promote"]
    assert "--online" not in commands[0]
    assert run(release=True).name == "Skipped"


def test_the_store_in_use_is_refreshed_before_the_challenge(
    server: None, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The challenge checks the store that services read, as of the timestamp that it is materialized up to."""
    commands: list[list[str]] = []
    as_of = "2026-01-17T00:00:00+00:00"
    summary = {"as_of": as_of, "up_to": as_of, "skipped": None}
    documents = {"artifacts/flows/online/refresh.json": summary}
    SERVING_STORE.parent.mkdir(parents=True)
    SERVING_STORE.touch()
    stubs = (Stub(documents=documents), promotion(True))
    monkeypatch.setattr(python_module, "run_reported", stub_modules(*stubs, commands=commands))
    assert run(release=True).message == "1 ran; abc is the champion"
    refresh, challenge = commands
    assert refresh[2] == "features.refresh"
    assert refresh[refresh.index("--as-of") + 1] == "2026-01-17T00:00:00"
    assert challenge[challenge.index("--online") + 1] == str(SERVING_STORE)
    assert challenge[challenge.index("--as-of") + 1] == as_of


def test_a_challenge_that_fails_leaves_the_date_open(server: None, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of the promotion is the message of the run, which may be run again."""
    error = "artifacts/bento: expected what the pipeline makes"
    failing = Stub(status=FAILED, error=error)
    monkeypatch.setattr(python_module, "run_reported", stub_modules(failing, commands=[]))
    state = run(release=True)
    assert state.is_failed()
    assert str(state.message).startswith(f"release.promote stopped: {error}\nlook closer: python -m release.promote")
    assert run().message == "1 cached"


def messages(state: State, seconds: float = 20) -> list[str | None]:
    """The messages of the run's tasks, when the server has them all."""

    async def read() -> list[str | None]:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        async with get_client() as client:
            last = time.monotonic() + seconds
            while True:
                tasks = await client.read_task_runs(flow_run_filter=chosen)
                done = [task.state.message for task in tasks if task.state and task.state.is_final()]
                if len(done) == 2 or time.monotonic() > last:
                    return done
                await asyncio.sleep(0.2)

    return asyncio.run(read())


HOLD = """
import asyncio
from flows.workspace.lock import workspace_lock
async def hold():
    async with workspace_lock(log=print):
        print("held")
        await asyncio.sleep(600)
asyncio.run(hold())
"""


def hold() -> subprocess.Popen[bytes]:
    """Another process that holds the workspace."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen([sys.executable, "-uc", HOLD], env=environment, stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    return holder


def test_two_at_once_wait_for_each_other(server: None, log: Path) -> None:
    """Both start with the same date; one runs, the other one waits, and is skipped."""

    async def both() -> list[State]:
        return list(await asyncio.gather(*(pipeline(as_of=DAY, release=False, return_state=True) for _ in range(2))))

    assert sorted(state.message or "" for state in asyncio.run(both())) == ["1 ran", "2026-01-17 is done"]


def test_a_killed_holder_releases_the_workspace(workspace: Path) -> None:
    """The log of a run that waits names the holder; after a kill -9 nothing has to be cleaned up."""
    log: list[str] = []
    holder = hold()

    async def wait() -> None:
        async with workspace_lock(log=log.append):
            log.append("mine")

    async def kill_while_waiting() -> None:
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(1)
        assert log == [f"waits until process {holder.pid} is done here"]
        holder.kill()
        await waiting

    asyncio.run(kill_while_waiting())
    holder.communicate()
    assert log[1:] == ["mine"]
    assert HOLDER.read_text() == str(os.getpid())


def test_a_terminated_run_leaves_no_process(server: None, workspace: Path) -> None:
    """SIGTERM, as a worker sends it on cancel: the stage ends with the flow."""
    seconds = str(os.getpid() * 1000 + 998)
    write_repository(workspace, slow={"cmd": f"touch begun; sleep {seconds}; touch out", "outs": ["out"]})
    write_params(workspace, None)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_API_URL": address()}
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.pipeline", "--no-release"], env=environment, stderr=subprocess.PIPE
    )
    while not (workspace / "begun").exists():
        assert flow.poll() is None, flow.communicate()
        time.sleep(0.05)
    flow.send_signal(signal.SIGTERM)
    flow.communicate(timeout=60)
    last = time.monotonic() + 10
    while running(seconds) and time.monotonic() < last:
        time.sleep(0.05)
    assert not running(seconds)


def address() -> str:
    """The API of the server of this session."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() or ""
