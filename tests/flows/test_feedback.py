"""The flow `feedback`: the final state, artifact and notification for each way in which the collector can end."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect import State

from common.exit_status import FAILED, LOCKED
from features import inspect_served
from flows.feedback import feedback
from flows.ops.notify import create_block
from flows.process import python_module
from flows.tasks import feedback_log
from serving import collect
from tests.support.flow_harness import newest_artifact
from tests.support.notifications import webhook, write_params
from tests.support.stub_modules import Stub, stub_modules

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("server")]

AS_OF = datetime(2026, 1, 18, 2, tzinfo=UTC)
COUNTS = {"received": 1500, "matched": 1400, "written": 1234, "lacking": {"profile": 6, "context": 60, "label": 200}}
COLLECTED = Stub(
    documents={"--report": {"skipped": None, "entries": 2000, "users": 9, "items": 8, "days": {"2026-01-17": COUNTS}}}
)
SUITES = {"tables": {"user": {"rows": 36}, "item": {"rows": 36}}}
COMPARED = Stub(documents={"artifacts/flows/served/report.json": SUITES})

Run = Callable[..., tuple[State, list[list[str]]]]


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the flow with stubs of the collector; returns its final state and the commands. Retries follow at once."""
    write_params(workspace, None)
    monkeypatch.setattr("flows.feedback.collect", feedback_log.collect.with_options(retry_delay_seconds=[0]))

    def run_with(*stubs: Stub) -> tuple[State, list[list[str]]]:
        commands: list[list[str]] = []
        monkeypatch.setattr(python_module, "run_reported", stub_modules(*stubs, commands=commands))
        return asyncio.run(feedback(as_of=AS_OF, return_state=True)), commands

    return run_with


def test_the_state_and_the_artifact_report_the_counts(run: Run) -> None:
    """The sentence counts rows and events that are none yet; the page has a line per day."""
    state, commands = run(COLLECTED)
    assert state.is_completed()
    assert state.message == "2,000 new entries; days written: 1 (1,234 impressions, 266 events are none yet)"
    assert "| 2026-01-17 | 1,500 | 1,400 | 1,234 | 6 | 60 | 200 |" in newest_artifact("feedback-log")
    assert "2026-01-18T02:00:00" in commands[0]


def test_without_events_the_run_ends_as_skipped(run: Run) -> None:
    """The final state is Skipped, with the sentence of the module, which is on the page, too."""
    state, _ = run(Stub(documents={"--report": {"skipped": "nothing to do: no event has come"}}))
    assert (state.name, state.message) == ("Skipped", "nothing to do: no event has come")
    assert "nothing to do: no event has come" in newest_artifact("feedback-log")


def test_a_collector_that_waits_is_tried_again(run: Run) -> None:
    """Another one is at work, then it is done."""
    state, commands = run(Stub(status=LOCKED, error="another collector."), COLLECTED)
    assert state.is_completed()
    assert len(commands) == 2


def test_a_failure_is_notified(run: Run, workspace: Path) -> None:
    """One attempt, one message with the cause and the command."""
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        state, _ = run(Stub(status=FAILED, error="data/ingested/users.parquet does not exist."))
    assert state.is_failed()
    assert posted[-1] == {"subject": "feedback: failed", "body": state.message}
    cause, closer = posted[-1]["body"].splitlines()
    assert cause == "serving.collect stopped: data/ingested/users.parquet does not exist."
    assert closer.startswith("look closer: python -m serving.collect --model artifacts/models/hinet_plus ")


def test_features_as_served_are_compared_on_the_days_that_were_written(run: Run, workspace: Path) -> None:
    """Where there is an offline store; a gate that closes fails the run, and the page has the counts."""
    (workspace / "data/features").mkdir(parents=True)
    (workspace / "data/features/views.json").write_text("[]")
    state, commands = run(COLLECTED, COMPARED)
    assert str(state.message).endswith("; features as served of 36 impressions are as recomputed")
    _, (_, _, name, *words) = commands
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert options["--first-day"] == options["--last-day"] == "2026-01-17"
    assert name == inspect_served.__name__
    parameters = inspect.signature(inspect_served.inspect_served).parameters.values()
    needed = {parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty}
    assert {word.removeprefix("--").replace("-", "_") for word in options} == needed  # the others lie beside `served`
    state, _ = run(COLLECTED, Stub(status=FAILED, error="the quality gate is closed: no later stage runs."))
    assert state.is_failed()
    assert "features.inspect_served stopped: the quality gate is closed" in str(state.message)
    assert "| 2026-01-17 |" in newest_artifact("feedback-log")


def test_the_module_accepts_the_command(run: Run) -> None:
    """Every option is a keyword of `collect`, and every keyword is given."""
    _, ((_, _, name, *words),) = run(COLLECTED)
    assert name == collect.__name__
    assert {word.removeprefix("--").replace("-", "_") for word in words[::2]} == set(
        inspect.signature(collect.collect).parameters
    )
