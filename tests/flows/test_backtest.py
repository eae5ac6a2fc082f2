"""A backtest rolls the clock over the days of a log in a copy of the project; heavy modules are played, DVC is real."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.states import State

from flows.backtest import OUT, backtest
from flows.materialize import ONLINE, WATERMARK
from flows.monitor import CHAMPION
from flows.monitor import OUT as JUDGED
from flows.process import python_module
from monitoring.timeline import timeline
from tests.support import world
from tests.support.flow_harness import write_repository
from tests.support.played_processes import artifact

pytestmark = pytest.mark.usefixtures("server")

FIRST = date(2026, 1, 5)
DAYS = [FIRST + timedelta(days=place) for place in range(4)]
LOG = "for day in {days}; do mkdir -p {folder} && touch {folder}/part; done".format(
    days=" ".join(map(str, DAYS)), folder="data/validated/events/day=$day"
)


class World:
    """What the modules would have done: their commands, and what is to come of them on which day."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, str]]] = []
        self.verdicts: dict[str, str] = {}
        self.closed: set[int] = set()  # attempts of the gate
        self.broken: set[str] = set()  # days on which the service cannot be replayed
        self.released = 0

    async def run_process(self, words: list[str], *, cwd: Path, log: Callable[[str], None]) -> int:
        """Play a module; what it would have written lies where it was asked for."""
        module, options = words[2], dict(zip(words[3::2], words[4::2], strict=True))
        self.commands.append((module, options))
        return int(getattr(self, module.split(".")[1])(options) or 0)

    def refresh(self, options: dict[str, str]) -> None:
        """The store is there, up to the moment."""
        write(WATERMARK, {"views": {"user": options["--as-of"]}})
        write(ONLINE, {})
        write(Path(options["--out"]) / "refresh.json", {})

    def release(self, options: dict[str, str]) -> int:
        """Another champion each time, where the gate is open."""
        self.released += 1
        passed = self.released not in self.closed
        tag = f"model{self.released}"
        rules = [{"name": "mean", "passed": passed, "sentence": "mean: -0.01"}]
        write(Path(options["--verdict"]), {"tag": tag, "passed": passed, "rules": rules})
        if passed:
            write(CHAMPION.parents[1] / tag / "model" / "model.json", {"tag": tag})
            CHAMPION.parent.unlink(missing_ok=True)
            CHAMPION.parent.symlink_to(tag)
        return 0 if passed else 2

    def replay(self, options: dict[str, str]) -> int:
        """The champion is the better of the two by 0.1 for every release."""
        if options["--day"] in self.broken:
            return 1
        frozen = json.loads((Path(options["--frozen"]) / "model.json").read_text())
        assert frozen == {"tag": "model1"}
        value = 0.1 * (self.released - 1)
        gain = {"value": value, "low": value - 0.03, "high": value + 0.03}
        write(
            Path(options["--out"]) / "figures.json",
            {"rows": 100, "mean": 0.6 + value, "frozen": 0.6, "gain": gain, "cells": {}, "checked": 3},
        )
        return 0

    def drift(self, options: dict[str, str]) -> int:
        """The verdict that was planted for the day."""
        verdict = self.verdicts.get(options["--last-day"], "ok")
        write(JUDGED / "drift.json", {"verdict": verdict, "reason": "because"})
        return {"ok": 0, "watch": 1, "act": 2}[verdict]

    def timeline(self, options: dict[str, str]) -> None:
        """As it is."""
        timeline(days=Path(options["--days"]), out=Path(options["--out"]))

    def asked(self, module: str, option: str) -> list[str]:
        """What the runs of a module were asked for."""
        return [options[option] for name, options in self.commands if name == module]


def write(path: Path, document: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def played(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A project in git whose log has four days, with work half done in it."""
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
    found = World()
    monkeypatch.setattr(python_module, "run_process", found.run_process)
    return found


def run(**chosen: Any) -> State:
    """The final state of a backtest from the second day on."""
    return asyncio.run(backtest(**{"first_day": DAYS[1]} | chosen, return_state=True))


def rows() -> list[dict[str, Any]]:
    """The days that are done."""
    return [json.loads(path.read_text()) for path in sorted((OUT / "days").glob("*.json"))]


def told(*names: str) -> list[tuple[Any, ...]]:
    """These columns of the days."""
    return [tuple(row[name] for name in names) for row in rows()]


def everything() -> dict[str, bytes]:
    """The files of the user."""
    return {
        str(path): path.read_bytes()
        for path in Path().rglob("*")
        if path.is_file() and not str(path).startswith(("artifacts/", ".dvc/tmp", ".dvc/cache"))
    }


def test_every_day_is_served_by_whoever_is_champion_in_the_morning(played: World) -> None:
    """Trained by schedule, judged every day, a line for each; the user's own files are as they were."""
    before = everything()
    state = run(retrain_every=2)
    assert state.is_completed(), state.message
    assert everything() == before
    assert told("day", "trained", "released", "model", "same") == [
        (str(DAYS[1]), "first", True, "model1", True),
        (str(DAYS[2]), None, False, "model1", True),
        (str(DAYS[3]), "schedule", True, "model2", False),
    ]
    assert played.asked("features.refresh", "--as-of") == [f"{day}T01:00:00" for day in DAYS[1:]]
    assert played.asked("release.replay", "--day") == [str(day) for day in DAYS[1:]]
    assert played.asked("monitoring.drift", "--first-day") == [str(day) for day in DAYS[1:]]
    assert yaml.safe_load((OUT / "project/data/features/params.yaml").read_text())["dataset"]["until"] == str(DAYS[3])
    assert (OUT / "project/runs").read_text().split() == ["trained", "trained"]
    assert "on 1 of them a retrained model served: +0.1000 (+0.0700 to +0.1300) AUC" in str(state.message)
    assert f"| {DAYS[3]} | 100 | 0.7000 | 0.6000 |" in artifact("backtest")


def test_a_day_that_is_done_stays_done(played: World) -> None:
    """Stopped on the third day, it goes on with the third; run again, nothing happens."""
    played.broken = {str(DAYS[2])}
    state = run(retrain_every=9)
    assert state.is_failed()
    assert "look closer: python -m release.replay --day 2026-01-07" in str(state.message)
    played.broken.clear()
    assert run(retrain_every=9).is_completed()
    assert played.asked("release.replay", "--day") == [str(day) for day in (DAYS[1], DAYS[2], DAYS[2], DAYS[3])]
    known = rows()
    assert run(retrain_every=9).is_completed()
    assert rows() == known
    assert played.released == 1


def test_act_trains_on_the_next_day(played: World) -> None:
    """Unless only the schedule counts; a closed gate says why, and the champion serves on."""
    played.verdicts, played.closed = {str(DAYS[1]): "act"}, {2}
    assert run(retrain_every=9).is_completed()
    assert told("trained", "released", "model") == [
        ("first", True, "model1"),
        ("act", False, "model1"),
        (None, False, "model1"),
    ]
    assert rows()[1]["gate"] == "model2 is not released: mean: -0.01"


def test_the_log_may_grow(played: World) -> None:
    """Asked for more days, it goes on; asked for otherwise, it is another backtest; `again` begins anew."""
    assert run(as_of=DAYS[2]).is_completed()
    assert len(rows()) == 1
    state = run(retrain_every=5)
    assert state.is_failed()
    assert "--again to begin anew, or another --out" in str(state.message)
    played.released = 0
    assert run(as_of=DAYS[2], settings={"train.epochs": "1"}, again=True).is_completed()
    assert yaml.safe_load((OUT / "project/params.yaml").read_text())["train"]["epochs"] == 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"settings": {"train.epoch": "1"}}, "train.epoch=1: params.yaml has no parameter of that name"),
        ({"settings": {"train.epochs": "few"}}, "train.epochs: Input should be a valid integer, found 'few'"),
        ({"first_day": None}, "the log has 4 days, no more than the first model needs: give --first-day"),
        ({"as_of": FIRST}, "no day from 2026-01-06 to 2026-01-05: the log goes from 2026-01-05 to 2026-01-08"),
    ],
)
def test_what_cannot_be_is_told(played: World, chosen: dict[str, Any], message: str) -> None:
    """A sentence that names it; nothing has run."""
    state = run(**chosen)
    assert state.is_failed()
    assert message in str(state.message)
    assert not played.commands


def test_without_a_champion_nobody_serves(played: World) -> None:
    """The first model has to pass the gate, too."""
    played.closed = {1}
    assert "there is nobody to serve: model1 is not released: mean: -0.01" in str(run().message)
