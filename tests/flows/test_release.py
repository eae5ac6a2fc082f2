"""The flow of a release: the gate as a process, its verdict as an artifact, once for a day."""

import asyncio
import datetime
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.paths import ROOT
from flows import release as module
from flows.process import python_module

DAY = datetime.date(2026, 1, 18)
RULES = [
    {"name": "mean", "passed": True, "sentence": "mean: better"},
    {"name": "cell feed/order", "passed": False, "sentence": "feed/order: worse by 0.2"},
]


@pytest.fixture
def gate(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A project in which the gate lets everything through; the commands that were run."""
    commands: list[list[str]] = []
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(python_module, "run_process", answering(0, RULES[:1], commands))
    return commands


def answering(status: int, rules: list[dict] | None, commands: list[list[str]]) -> object:
    """A stand-in for the process: it writes a verdict, if there are rules, and ends with `status`."""

    async def run_process(words: list[str], *, cwd: Path, log: Callable[[str], None]) -> int:
        commands.append(words)
        log("release.promote stopped: nothing there")
        if rules:
            told = {"tag": "abc", "passed": all(rule["passed"] for rule in rules), "rules": rules}
            Path(words[words.index("--verdict") + 1]).write_text(json.dumps(told))
        return status

    return run_process


def run(**arguments: object) -> object:
    """The final state of the flow."""
    return asyncio.run(module.release(**{"as_of": DAY} | arguments, return_state=True))


def test_an_open_gate_is_a_release_and_an_artifact(gate: list[list[str]]) -> None:
    """The state says who is champion; the artifact has every rule."""
    state = run()
    assert (state.type.value, state.name, state.message) == ("COMPLETED", "Released", "abc is the champion")
    assert gate[0][1:3] == ["-m", "release.promote"]
    assert "mean: better" in asyncio.run(artifact())


async def artifact() -> str:
    """The newest verdict."""
    from prefect.artifacts import Artifact

    return (await Artifact.aget("release")).data


def test_a_day_is_released_once(gate: list[list[str]]) -> None:
    """The same day again, and an older one, are skipped; `again` is not."""
    run()
    assert run().name == "Skipped"
    assert run(as_of=DAY - datetime.timedelta(days=1)).name == "Skipped"
    assert len(gate) == 1
    assert run(again=True).name == "Released"


def test_a_closed_gate_is_no_failure_and_says_why(gate: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not hold stands first; the day is done."""
    monkeypatch.setattr(python_module, "run_process", answering(2, RULES, gate))
    state = run()
    assert (state.type.value, state.name) == ("COMPLETED", "Closed")
    assert state.message == "abc is not released: feed/order: worse by 0.2"
    assert "- **no**: feed/order: worse by 0.2\n- ok: mean" in asyncio.run(artifact())
    assert run().name == "Skipped"


def test_what_could_not_be_judged_is_a_failure_and_may_be_tried_again(
    gate: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence of the process and the command to look closer; the day is not done."""
    monkeypatch.setattr(python_module, "run_process", answering(1, None, gate))
    state = run()
    assert state.is_failed()
    assert state.message.startswith("release.promote stopped: nothing there\nlook closer: python -m release.promote")
    assert run().is_failed()
    assert len(gate) == 2
