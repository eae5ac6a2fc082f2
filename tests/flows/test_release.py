"""The flow `release`: the challenge as a process, the verdict as an artifact, once for a day."""

import asyncio
import datetime
import shutil
from pathlib import Path

import pytest
from prefect import State

from common.exit_status import FAILED, REJECTED
from common.paths import ROOT
from flows.process import python_module
from flows.release import release
from tests.support.flow_harness import newest_artifact
from tests.support.stub_modules import Stub, stub_modules

pytestmark = pytest.mark.process

DAY = datetime.date(2026, 1, 18)
RULES = [
    {"name": "mean", "passed": True, "sentence": "mean: better"},
    {"name": "cell feed/order", "passed": False, "sentence": "feed/order: worse by 0.2"},
]
ACCEPT = Stub(documents={"--verdict": {"tag": "abc", "passed": True, "rules": RULES[:1]}})
REJECT = Stub(status=REJECTED, documents={"--verdict": {"tag": "abc", "passed": False, "rules": RULES}})


@pytest.fixture
def commands(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run in a project whose challenger is accepted."""
    commands: list[list[str]] = []
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_module, "run_reported", stub_modules(ACCEPT, commands=commands))
    return commands


def run(**arguments: object) -> State:
    """The final state of the flow."""
    return asyncio.run(release(**{"as_of": DAY} | arguments, return_state=True))


def test_an_accepted_challenger_is_released_and_the_verdict_is_an_artifact(commands: list[list[str]]) -> None:
    """The final state names the champion; the artifact has every rule."""
    state = run()
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "Released", "abc is the champion")
    assert commands[0][1:3] == ["-m", "release.promote"]
    assert "mean: better" in newest_artifact("release")


def test_a_day_is_released_once(commands: list[list[str]]) -> None:
    """The same day again, and an older one, are skipped; `again` is not."""
    run()
    assert run().name == "Skipped"
    assert run(as_of=DAY - datetime.timedelta(days=1)).name == "Skipped"
    assert len(commands) == 1
    assert run(again=True).name == "Released"


def test_a_rejected_challenger_is_no_failure(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that failed is the message and comes first in the artifact; the day is done."""
    monkeypatch.setattr(python_module, "run_reported", stub_modules(REJECT, commands=commands))
    state = run()
    assert (state.type.value, state.name) == ("COMPLETED", "Rejected")
    assert state.message == "abc is not released: feed/order: worse by 0.2"
    assert "- **no**: feed/order: worse by 0.2\n- ok: mean" in newest_artifact("release")
    assert run().name == "Skipped"


def test_a_challenge_that_fails_may_be_run_again(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the error of the process and the command to look closer; the day is not done."""
    failing = Stub(status=FAILED, error="nothing there")
    monkeypatch.setattr(python_module, "run_reported", stub_modules(failing, commands=commands))
    state = run()
    assert state.is_failed()
    assert state.message.startswith("release.promote stopped: nothing there\nlook closer: python -m release.promote")
    assert run().is_failed()
    assert len(commands) == 2
