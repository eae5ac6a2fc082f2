"""Where the flows let a training begin: what they write into the folder that the stage `train` depends on."""

import datetime
from pathlib import Path

import pytest

from common.errors import ParameterError
from common.paths import CHAMPION, NIGHTLY_START
from flows.tasks.training_start import is_full_fit, write_start
from tests.support import world

pytestmark = pytest.mark.unit


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a project whose trainings begin in the folder of the flows."""
    world.write_params(tmp_path, train__warm_start=str(NIGHTLY_START))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def release(tag: str) -> None:
    """Make the model `tag` the champion."""
    model = CHAMPION.parent / tag / "model"
    model.mkdir(parents=True)
    (model / "model.json").write_text(tag)
    CHAMPION.unlink(missing_ok=True)
    CHAMPION.symlink_to(tag)


def held() -> dict[str, str]:
    """The files of the folder."""
    return {path.name: path.read_text() for path in NIGHTLY_START.iterdir()}


def test_a_training_begins_in_the_champion_or_with_new_weights(project: Path) -> None:
    """The folder holds the champion of now, also after another release; on a full fit, or without one, no model."""
    assert write_start(full=False) == "new weights"
    assert list(held()) == ["from_nothing"]
    release("one")
    assert write_start(full=False) == "the champion one"
    release("two")
    assert held() == {"model.json": "one"}
    assert write_start(full=False) == "the champion two"
    assert held() == {"model.json": "two"}
    assert write_start(full=True) == "new weights"
    assert list(held()) == ["from_nothing"]


def test_a_folder_of_somebody_else_is_not_written(project: Path) -> None:
    """A full fit leaves it as it is; a training that is to begin in the champion is refused, with what to set."""
    world.write_params(project)
    assert write_start(full=True) is None
    assert not NIGHTLY_START.exists()
    with pytest.raises(
        ParameterError, match="is data/warm_start: set it to artifacts/warm_start, where the flow copies"
    ):
        write_start(full=False)


def test_every_seven_days_is_every_sunday() -> None:
    """Of three weeks, the full fits are the Sundays; with 1 it is every day."""
    days = [datetime.date(2026, 1, 5) + datetime.timedelta(days=number) for number in range(21)]
    assert {f"{day:%a}" for day in days if is_full_fit(day, 7)} == {"Sun"}
    assert all(is_full_fit(day, 1) for day in days)
