"""The flow `materialize`: the final state, artifact and notification for each way in which the refresh can end."""

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect import State

from common.exit_status import FAILED, LOCKED
from common.run_identity import RunIdentity
from flows.materialize import materialize
from flows.ops.notify import create_block
from flows.process import python_module
from flows.tasks import online_store
from tests.support.flow_harness import newest_artifact
from tests.support.notifications import webhook, write_params
from tests.support.stub_modules import Stub, stub_modules

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("server")]

AS_OF = datetime(2026, 1, 18, 2, tzinfo=UTC)
COUNTS = {"written": 1234, "late": 2, "unchanged": 5, "older": 0, "later": 7}
REPORT = "artifacts/flows/online/refresh.json"
DONE = {
    "as_of": AS_OF.isoformat(),
    "up_to": AS_OF.isoformat(),
    "skipped": None,
    "whole": False,
    "again": False,
    "views": {"user": COUNTS},
    "compared": {"user": 500},
}
STORE_LOCKED = Stub(status=LOCKED, error="online.db is locked: another refresh is at work. Later.")
REFRESHED = Stub(documents={REPORT: DONE})

Run = Callable[..., tuple[State, list[list[str]]]]


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the flow with stubs of the refresh; returns its final state and the commands. Retries follow at once."""
    write_params(workspace, None)
    monkeypatch.setattr("flows.materialize.refresh", online_store.refresh.with_options(retry_delay_seconds=[0]))

    def run_with(*stubs: Stub) -> tuple[State, list[list[str]]]:
        commands: list[list[str]] = []
        monkeypatch.setattr(python_module, "run_reported", stub_modules(*stubs, commands=commands))
        return asyncio.run(materialize(as_of=AS_OF, return_state=True)), commands

    return run_with


def test_the_state_and_the_artifact_report_what_was_written(run: Run) -> None:
    """The sentence counts rows and compared entities; the page has a line per view."""
    state, commands = run(REFRESHED)
    assert state.is_completed()
    assert state.message == "1,234 rows written (2 late), 500 entities are as in the offline store"
    assert "| user | 1,234 | 2 | 5 | 0 | 7 | 500 |" in newest_artifact("online-store")
    assert "2026-01-18T02:00:00" in commands[0]


def test_a_store_with_a_newer_timestamp_ends_the_run_as_skipped(run: Run) -> None:
    """The final state is Skipped, with the sentence of the module."""
    state, _ = run(
        Stub(
            documents={
                REPORT: {
                    "as_of": AS_OF.isoformat(),
                    "up_to": "2026-01-19T00:00:00+00:00",
                    "skipped": "nothing to do: up to 2026-01-19 already",
                }
            }
        )
    )
    assert (state.name, state.message) == ("Skipped", "nothing to do: up to 2026-01-19 already")


def test_a_locked_store_is_retried(run: Run) -> None:
    """Locked twice, then written."""
    state, commands = run(STORE_LOCKED, STORE_LOCKED, REFRESHED)
    assert state.is_completed()
    assert len(commands) == 3


def test_a_store_that_stays_locked_is_a_failure_with_its_cause(run: Run) -> None:
    """After the last retry: the cause in one line, and the command to look closer."""
    state, commands = run(STORE_LOCKED)
    assert len(commands) == 1 + len(online_store.RETRY_SECONDS)
    assert state.is_failed()
    cause, closer = str(state.message).splitlines()
    assert "another refresh is at work" in cause
    assert closer.startswith("look closer: python -m features.refresh --schema data/schema.json")


def test_another_failure_is_not_retried_and_is_notified(run: Run, workspace: Path) -> None:
    """Data that breaks a rule will break it again: one attempt, one message with cause and command."""
    error = "the quality gate is closed: no later stage runs.\nitem: ...\nReport"
    with webhook() as (url, posted):
        asyncio.run(create_block("team", url))
        write_params(workspace, "custom-webhook/team")
        state, commands = run(Stub(status=FAILED, error=error))
    assert state.is_failed()
    assert len(commands) == 1
    hello, failure = posted
    assert hello["subject"] == "hello"
    assert failure == {"subject": "materialize: failed", "body": state.message}
    cause, closer = failure["body"].splitlines()
    assert cause == "features.refresh stopped: the quality gate is closed: no later stage runs. item: ..."
    assert closer.startswith("look closer: python -m features.refresh ")


def test_a_notification_that_cannot_be_sent_changes_nothing(
    run: Run, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A webhook that is gone, and a block that does not exist: a warning in the log, the same final state."""
    with webhook() as (url, _):
        asyncio.run(create_block("broken", url))
    for block in ("custom-webhook/broken", "custom-webhook/absent"):
        write_params(workspace, block)
        state, _ = run(Stub(status=FAILED, error="no."))
        assert state.is_failed()
        assert f"{block}: 'materialize: failed' was not sent" in caplog.text


def test_the_module_accepts_the_command(run: Run) -> None:
    """Every option is a keyword of `refresh`, and every keyword is given."""
    from features import refresh

    _, ((_, _, name, *words),) = run(REFRESHED)
    assert name == refresh.__name__
    assert {word.removeprefix("--").replace("-", "_") for word in words[::2]} == set(
        inspect.signature(refresh.refresh).parameters
    )


def test_the_page_of_a_skipped_run_has_the_reason() -> None:
    """The sentence and the run, without a table."""
    run = RunIdentity(id="one", time="now", data="5e1f")
    page = online_store.page(online_store.Summary(as_of=AS_OF, up_to=AS_OF, skipped="nothing to do", run=run))
    assert page.startswith("# The online store as of 2026-01-18T02:00:00+00:00\n\nnothing to do\n")
    assert "run `one`, now, data `5e1f`" in page
    assert "|" not in page
