"""The flow `monitor`: what each verdict of the drift report triggers, and that it does so once."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client

from common.exit_status import NO_VERDICT, VERDICTS
from flows.monitor import monitor
from flows.ops.notify import create_block
from flows.process import python_module
from tests.support.flow_harness import newest_artifact
from tests.support.notifications import webhook, write_params
from tests.support.stub_modules import Stub, stub_modules

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("server")]

DAY = date(2026, 1, 18)
FINDING = {"verdict": "act", "kind": "missing", "sentence": "price in all scenarios is missing in 100% of the rows."}

Run = Callable[..., State]


def reporting(verdict: str, findings: int = 1) -> Stub:
    """A stub of the drift report with that verdict."""
    report = {
        "verdict": verdict,
        "reason": f"Because {verdict}.",
        "next_step": "Look upstream.",
        "current": {"first_day": "2026-01-16", "last_day": "2026-01-17", "rows": 12345},
        "findings": [FINDING] * findings,
    }
    return Stub(status=VERDICTS[verdict], documents={"artifacts/flows/monitor/drift.json": report})


@pytest.fixture
def commands() -> list[list[str]]:
    """The commands that the flow has run."""
    return []


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch, commands: list[list[str]]) -> Run:
    """Run the flow on a day with a stub of the drift report; returns its final state."""
    write_params(workspace, None)

    def run_with(stub: Stub, as_of: date | None = DAY, **options: Any) -> State:
        monkeypatch.setattr(python_module, "run_reported", stub_modules(stub, commands=commands))
        return asyncio.run(monitor(as_of=as_of, return_state=True, **options))

    return run_with


@pytest.fixture(scope="module")
def deployment(server: None) -> str:
    """A deployment pipeline/nightly as the flow expects it; no worker runs it."""

    async def deploy() -> str:
        async with get_client() as client:
            number = await client.create_flow(nightly)
            await client.create_deployment(flow_id=number, name="nightly", enforce_parameter_schema=False)
        return "pipeline/nightly"

    return asyncio.run(deploy())


@flow(name="pipeline")
async def nightly(as_of: date, again: bool = False) -> None:
    """A stub of the pipeline."""


def started() -> list[dict[str, Any]]:
    """The parameters of every run of the deployment."""

    async def read() -> list[dict[str, Any]]:
        async with get_client() as client:
            runs = await client.read_flow_runs()
            return [run.parameters for run in runs if run.deployment_id]

    return asyncio.run(read())


def test_ok_completes_without_a_notification(run: Run, workspace: Path) -> None:
    """The final state has the reason; the artifact has the window."""
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        state = run(reporting("ok", findings=0))
    assert (state.name, state.message) == ("Completed", "Because ok.")
    assert [message["subject"] for message in posted] == ["hello"]
    assert newest_artifact("drift-report").startswith("# ok: 2026-01-16 to 2026-01-17, 12,345 rows")


def test_watch_is_notified_and_starts_nothing(run: Run, workspace: Path) -> None:
    """The message has the reason, the gravest findings, what to do and where to look; the artifact has ten findings."""
    before = len(started())
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        state = run(reporting("watch", findings=12))
    assert state.name == "Watch"
    assert state.is_completed()
    body = "\n".join(
        [
            "Because watch.",
            *[f"- {FINDING['sentence']}"] * 3,
            "Look upstream.",
            "look closer: artifacts/flows/monitor/index.html",
        ]
    )
    assert posted[1:] == [{"subject": "monitor: watch", "body": body}]
    page = newest_artifact("drift-report")
    assert page.count(FINDING["sentence"]) == 10
    assert "2 more in `artifacts/flows/monitor/index.html`" in page
    assert len(started()) == before


def test_act_starts_the_pipeline_once(run: Run, workspace: Path, deployment: str, commands: list[list[str]]) -> None:
    """As of the same date, however often the monitor runs; the message names the flow run."""
    before = len(started())
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        first, second, third = (run(reporting("act"), again=again) for again in (False, False, True))
    assert (first.name, second.name, third.name) == ("Act", "Skipped", "Act")
    assert len(commands) == 2
    assert started()[before:] == [{"as_of": "2026-01-18", "again": True}]
    assert posted[1]["subject"] == "monitor: act"
    assert posted[1]["body"].startswith(f"{deployment} was started: run ")


def test_act_without_a_deployment_has_the_command_to_run(run: Run, workspace: Path) -> None:
    """The state stays Act; a person starts the pipeline."""
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("pipeline/nightly", "pipeline/absent"))
    state = run(reporting("act"))
    assert state.name == "Act"
    assert "there is no deployment pipeline/absent to start: run `python -m flows.pipeline --as-of 2026-01-18" in str(
        state.message
    )


def test_no_verdict_is_a_failure_that_is_notified(run: Run, workspace: Path) -> None:
    """The message has the cause and the command to look closer; the date is not done."""
    error = "data/training/*.parquet: no rows from 2026-01-16 to 2026-01-17"
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        state = run(Stub(status=NO_VERDICT, error=error))
    assert state.is_failed()
    cause, closer = str(state.message).splitlines()
    assert cause == f"monitoring.drift stopped: {error}"
    assert closer.startswith("look closer: python -m monitoring.drift --current 'data/training/*.parquet'")
    assert posted[1:] == [{"subject": "monitor: failed", "body": state.message}]
    assert run(reporting("ok")).name == "Completed"


def test_a_date_before_the_last_one_is_skipped(run: Run) -> None:
    """And a later one is not."""
    assert run(reporting("ok")).name == "Completed"
    assert run(reporting("ok"), as_of=date(2026, 1, 17)).name == "Skipped"
    assert run(reporting("ok"), as_of=date(2026, 1, 19)).name == "Completed"


def test_without_a_date_it_is_the_day_of_the_schedule(run: Run, commands: list[list[str]]) -> None:
    """The window ends with the day before the one for which the run was scheduled (UTC)."""
    before = datetime.now(UTC).date()
    run(reporting("ok"), as_of=None)
    last = date.fromisoformat(commands[0][commands[0].index("--last-day") + 1])
    assert before <= last + timedelta(days=1) <= datetime.now(UTC).date()


def test_the_module_accepts_the_command(run: Run, commands: list[list[str]], workspace: Path) -> None:
    """Every option is a keyword of `drift`; the window is the days before the date; each verdict has its status."""
    from monitoring import drift

    (workspace / "reports").mkdir()
    (workspace / "reports" / "validation.json").touch()
    run(reporting("ok"), days=3)
    ((_, _, name, *words),) = commands
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert name == drift.__name__
    assert {option.removeprefix("--").replace("-", "_") for option in options} <= set(
        inspect.signature(drift.drift).parameters
    )
    assert (options["--first-day"], options["--last-day"]) == ("2026-01-15", "2026-01-17")
    assert VERDICTS == {"ok": 0, "watch": 10, "act": 11}
