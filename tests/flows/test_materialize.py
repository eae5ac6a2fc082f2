"""The flow around the refresh of the online store: what becomes of each way in which it can end."""

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.states import State

from flows import materialize as module
from flows.ops import notify as notifying
from flows.process import python_module
from tests.support.played_processes import Play, artifact, notify, played, webhook

pytestmark = pytest.mark.usefixtures("server")

MOMENT = datetime(2026, 1, 18, 2, tzinfo=UTC)
COUNTS = {"written": 1234, "late": 2, "unchanged": 5, "older": 0, "later": 7}
REPORT = "artifacts/flows/online/refresh.json"
DONE = {
    "as_of": MOMENT.isoformat(),
    "skipped": None,
    "whole": False,
    "again": False,
    "views": {"user": COUNTS},
    "compared": {"user": 500},
}
LOCKED: Play = (75, ["features.refresh stopped: online.db is locked: another refresh is at work. Later."], {})
GOOD: Play = (0, ["user: 1,234 rows written"], {REPORT: DONE})

Run = Callable[..., tuple[State, list[list[str]]]]


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the flow with a refresh that plays; its last state and the commands. Tries follow at once."""
    notify(workspace, None)
    monkeypatch.setattr(module, "refresh", module.refresh.with_options(retry_delay_seconds=[0]))

    def ended(*plays: Play) -> tuple[State, list[list[str]]]:
        commands: list[list[str]] = []
        monkeypatch.setattr(python_module, "run_process", played(*plays, commands=commands))
        return asyncio.run(module.materialize(as_of=MOMENT, return_state=True)), commands

    return ended


def test_what_was_written_is_the_state_and_the_artifact(run: Run) -> None:
    """The sentence counts rows and compared entities; the page has a line per view."""
    state, commands = run(GOOD)
    assert state.is_completed()
    assert state.message == "1,234 rows written (2 late), 500 entities are as in the offline store"
    assert "| user | 1,234 | 2 | 5 | 0 | 7 | 500 |" in artifact("online-store")
    assert "2026-01-18T02:00:00" in commands[0]


def test_a_newer_moment_that_is_done_is_a_state_of_its_own(run: Run) -> None:
    """Skipped, with the sentence of the module."""
    state, _ = run((0, [], {REPORT: {"as_of": "2026", "skipped": "nothing to do: up to 2026-01-19 already"}}))
    assert (state.name, state.message) == ("Skipped", "nothing to do: up to 2026-01-19 already")


def test_a_locked_store_is_tried_again(run: Run) -> None:
    """Twice locked, then written."""
    state, commands = run(LOCKED, LOCKED, GOOD)
    assert state.is_completed()
    assert len(commands) == 3


def test_a_store_that_stays_locked_is_a_failure_with_its_cause(run: Run) -> None:
    """After the last try: why, in one line, and what to run."""
    state, commands = run(LOCKED)
    assert len(commands) == 1 + len(module.DELAYS)
    assert state.is_failed()
    cause, closer = str(state.message).splitlines()
    assert "another refresh is at work" in cause
    assert closer.startswith("look closer: python -m features.refresh --schema data/schema.json")


def test_another_failure_is_not_tried_again_and_somebody_is_told(run: Run, workspace: Path) -> None:
    """A gate that is closed stays closed: one try, one message with cause and command."""
    with webhook() as (url, posted):
        asyncio.run(notifying.create("team", url))
        notify(workspace, "custom-webhook/team")
        state, commands = run(
            (1, ["features.refresh stopped: the gate is closed, nothing goes on.", "item: ...", "Report"], {})
        )
    assert state.is_failed()
    assert len(commands) == 1
    hello, failure = posted
    assert hello["subject"] == "hello"
    assert failure == {"subject": "materialize: failed", "body": state.message}
    said, closer = failure["body"].splitlines()
    assert said == "features.refresh stopped: the gate is closed, nothing goes on. item: ..."
    assert closer.startswith("look closer: python -m features.refresh ")


def test_nobody_who_can_be_told_changes_nothing(run: Run, workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A webhook that answers 500, and a block that does not exist: a warning in the log, the same state."""
    with webhook() as (url, _):
        asyncio.run(notifying.create("broken", url))
    for block in ("custom-webhook/broken", "custom-webhook/absent"):
        notify(workspace, block)
        state, _ = run((1, ["features.refresh stopped: no."], {}))
        assert state.is_failed()
        assert f"{block} was not told 'materialize: failed'" in caplog.text


def test_the_module_understands_the_command(run: Run) -> None:
    """Every option is a keyword of `refresh`, and every keyword is given."""
    from features import refresh as refreshing

    _, ((_, _, name, *words),) = run(GOOD)
    assert name == refreshing.__name__
    assert {word.removeprefix("--").replace("-", "_") for word in words[::2]} == set(
        inspect.signature(refreshing.refresh).parameters
    )
    assert refreshing.LOCKED == module.LOCKED


def test_the_page_of_a_skipped_run_says_why() -> None:
    """No table, the sentence."""
    told: dict[str, Any] = json.loads(json.dumps({"as_of": "2026", "skipped": "nothing to do"}))
    assert module.page(told) == "# The online store as of 2026\n\nnothing to do\n"
