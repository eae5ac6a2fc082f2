"""A backtest runs the days of a log in a copy of the project; heavy modules are stubs, DVC is real."""

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from prefect import State

from common import run_identity
from common.exit_status import FAILED, NO_VERDICT, REJECTED, VERDICTS
from common.paths import CHAMPION, NIGHTLY_START, SERVING_STORE
from common.yaml_file import read_yaml
from flows.backtest import OUT, backtest
from flows.process import python_module
from flows.process.reported import ProcessResult
from flows.tasks.drift_report import OUT as DRIFT
from monitoring.timeline import timeline
from tests.support import world
from tests.support.flow_harness import newest_artifact, write_repository
from tests.support.stub_modules import ended, run_block

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("server")]

FIRST = date(2026, 1, 5)
DAYS = [FIRST + timedelta(days=number) for number in range(4)]
LOG = "for day in {days}; do mkdir -p {folder} && touch {folder}/part; done".format(
    days=" ".join(map(str, DAYS)), folder="data/validated/events/day=$day"
)


class Modules:
    """Stubs of the modules: their commands, and what each of them does on which day."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, str]]] = []
        self.verdicts: dict[str, str] = {}
        self.rejected: set[int] = set()  # numbers of the challenges that are rejected
        self.broken: set[str] = set()  # days that cannot be replayed
        self.challenges = 0
        self.run = ""

    async def run_reported(self, words: list[str], *, log: Callable[[str], None]) -> ProcessResult:
        """End as the module would have, with its files in the requested paths."""
        module, options = words[2], dict(zip(words[3::2], words[4::2], strict=True))
        self.commands.append((module, options))
        self.run = run_identity.new_id()
        return ended(module, status=getattr(self, module.split(".")[1])(options) or 0, run=self.run)

    def refresh(self, options: dict[str, str]) -> None:
        """The store exists, with its timestamp."""
        write(SERVING_STORE, {})
        as_of = options["--as-of"]
        self.write(Path(options["--out"]) / "refresh.json", {"as_of": as_of, "up_to": as_of, "skipped": None})

    def promote(self, options: dict[str, str]) -> int:
        """A new champion each time, unless the challenge is rejected."""
        self.challenges += 1
        passed = self.challenges not in self.rejected
        tag = f"model{self.challenges}"
        rules = [{"name": "mean", "passed": passed, "sentence": "mean: -0.01"}]
        self.write(Path(options["--verdict"]), {"tag": tag, "passed": passed, "rules": rules})
        if passed:
            write(CHAMPION.parent / tag / "model" / "model.json", {"tag": tag})
            CHAMPION.unlink(missing_ok=True)
            CHAMPION.symlink_to(tag)
        return 0 if passed else REJECTED

    def replay(self, options: dict[str, str]) -> int:
        """The champion is the better of the two by 0.1 for every release."""
        if options["--day"] in self.broken:
            return FAILED
        frozen = json.loads((Path(options["--frozen"]) / "model.json").read_text())
        assert frozen == {"tag": "model1"}
        value = 0.1 * (self.challenges - 1)
        gain = {"value": value, "low": value - 0.03, "high": value + 0.03}
        self.write(
            Path(options["--out"]) / "figures.json",
            {"rows": 100, "mean": 0.6 + value, "frozen": 0.6, "gain": gain, "cells": {}, "checked": 3},
        )
        return 0

    def drift(self, options: dict[str, str]) -> int:
        """The verdict that was planted for the day."""
        verdict = self.verdicts.get(options["--last-day"], "ok")
        if verdict == "none":
            return NO_VERDICT
        window = {"first_day": options["--first-day"], "last_day": options["--last-day"], "rows": 100}
        report = {"verdict": verdict, "reason": "because", "next_step": "", "current": window, "findings": []}
        self.write(DRIFT / "drift.json", report)
        return VERDICTS[verdict]

    def timeline(self, options: dict[str, str]) -> None:
        """The module itself."""
        with mock.patch.dict(os.environ, {run_identity.VARIABLE: self.run}):
            timeline(days=Path(options["--days"]), out=Path(options["--out"]))

    def write(self, path: Path, document: dict[str, Any]) -> None:
        """The document of the module that runs."""
        write(path, document | run_block(self.run))

    def values(self, module: str, option: str) -> list[str]:
        """The values of an option in the runs of a module."""
        return [options[option] for name, options in self.commands if name == module]


def write(path: Path, document: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def modules(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Modules:
    """A project in git whose log has four days, with uncommitted work in it."""
    write_repository(
        workspace,
        log={"cmd": LOG, "params": ["dataset.until"], "outs": ["data/validated"]},
        views={
            "cmd": "mkdir data/features; cp params.yaml data/features",
            "params": ["dataset.until"],
            "deps": ["data/validated"],
            "outs": ["data/features"],
        },
        model={"cmd": "echo trained >> runs; touch model", "deps": ["data/features"], "outs": ["model"]},
    )
    (workspace / ".gitignore").write_text("/data\n/artifacts\n/model\n")
    (workspace / "half.py").write_text("done")
    world.write_params(workspace)
    subprocess.run(["git", "init", "--quiet"], check=True)
    stubs = Modules()
    monkeypatch.setattr(python_module, "run_reported", stubs.run_reported)
    return stubs


def run(**chosen: Any) -> State:
    """The final state of a backtest from the second day on."""
    return asyncio.run(backtest(**{"first_day": DAYS[1]} | chosen, return_state=True))


def rows() -> list[dict[str, Any]]:
    """The rows of the finished days."""
    return [json.loads(path.read_text()) for path in sorted((OUT / "days").glob("*.json"))]


def columns(*names: str) -> list[tuple[Any, ...]]:
    """These columns of the finished days."""
    return [tuple(row[name] for name in names) for row in rows()]


def users_files() -> dict[str, bytes]:
    """The user's files and their bytes."""
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and not str(path).startswith(("artifacts/", ".dvc/tmp", ".dvc/cache"))
    }


def test_every_day_is_served_by_the_champion_of_its_morning(modules: Modules) -> None:
    """Training follows the schedule, every day has a drift report and a row; the user's own files do not change.

    With a full fit every third day, the training of the third day begins in the champion.
    """
    before = users_files()
    state = run(retrain_every=2, full_fit_every=3)
    assert state.is_completed(), state.message
    assert users_files() == before
    assert columns("day", "trained", "released", "model", "same") == [
        (str(DAYS[1]), "first", True, "model1", True),
        (str(DAYS[2]), None, False, "model1", True),
        (str(DAYS[3]), "schedule", True, "model2", False),
    ]
    assert modules.values("features.refresh", "--as-of") == [f"{day}T01:00:00" for day in DAYS[1:]]
    assert modules.values("release.replay", "--day") == [str(day) for day in DAYS[1:]]
    assert modules.values("monitoring.drift", "--first-day") == [str(day) for day in DAYS[1:]]
    assert read_yaml(OUT / "project/data/features/params.yaml")["dataset"]["until"] == str(DAYS[3])
    assert (OUT / "project/runs").read_text().split() == ["trained", "trained"]
    assert json.loads((OUT / "project" / NIGHTLY_START / "model.json").read_text()) == {"tag": "model1"}
    assert "on 1 of them a retrained model served: +0.1000 (+0.0700 to +0.1300) AUC" in str(state.message)
    assert f"| {DAYS[3]} | 100 | 0.7000 | 0.6000 |" in newest_artifact("backtest")


def test_a_finished_day_does_not_run_again(modules: Modules) -> None:
    """After a failure on the third day, the backtest goes on with the third; a further run does nothing."""
    modules.broken = {str(DAYS[2])}
    state = run(retrain_every=9)
    assert state.is_failed()
    assert "look closer: python -m release.replay --day 2026-01-07" in str(state.message)
    modules.broken.clear()
    assert run(retrain_every=9).is_completed()
    assert modules.values("release.replay", "--day") == [str(day) for day in (DAYS[1], DAYS[2], DAYS[2], DAYS[3])]
    known = rows()
    assert run(retrain_every=9).is_completed()
    assert rows() == known
    assert modules.challenges == 1


def test_act_trains_on_the_next_day(modules: Modules) -> None:
    """The row of a rejected challenger has the reason; a day without a verdict has "none", never that before it."""
    modules.verdicts, modules.rejected = {str(DAYS[1]): "act", str(DAYS[2]): "none"}, {2}
    assert run(retrain_every=9).is_completed()
    assert columns("trained", "released", "model") == [
        ("first", True, "model1"),
        ("act", False, "model1"),
        (None, False, "model1"),
    ]
    assert rows()[1]["gate"] == "model2 is not released: mean: -0.01"
    assert columns("verdict", "reason") == [("act", "because"), ("none", "its last line"), ("ok", "because")]


@pytest.mark.slow
def test_the_log_may_grow(modules: Modules) -> None:
    """With a later end it goes on; other arguments are another backtest; `again` begins anew."""
    assert run(as_of=DAYS[2]).is_completed()
    assert len(rows()) == 1
    state = run(retrain_every=5)
    assert state.is_failed()
    assert "--again to begin anew, or another --out" in str(state.message)
    modules.challenges = 0
    assert run(as_of=DAYS[2], settings={"train.epochs": "1"}, again=True).is_completed()
    assert read_yaml(OUT / "project/params.yaml")["train"]["epochs"] == 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"settings": {"train.epoch": "1"}}, "train.epoch=1: params.yaml has no parameter of that name"),
        ({"settings": {"train.epochs": "few"}}, "train.epochs: Input should be a valid integer, found 'few'"),
        ({"first_day": None}, "the log has 4 days, no more than the first model needs: give --first-day"),
        ({"as_of": FIRST}, "no day from 2026-01-06 to 2026-01-05: the log goes from 2026-01-05 to 2026-01-08"),
    ],
)
def test_arguments_that_cannot_work_are_rejected(modules: Modules, chosen: dict[str, Any], message: str) -> None:
    """The message names the argument; nothing has run."""
    state = run(**chosen)
    assert state.is_failed()
    assert message in str(state.message)
    assert not modules.commands


def test_without_a_champion_the_backtest_stops(modules: Modules) -> None:
    """The promotion policy can reject the first model, too."""
    modules.rejected = {1}
    assert "there is no champion to serve with: model1 is not released: mean: -0.01" in str(run().message)
