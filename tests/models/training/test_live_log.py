"""The curves that DVCLive writes while a network is trained."""

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from dulwich.repo import Repo
from dvc.repo import Repo as DvcRepo

from common import params, stage
from common.errors import TrainingError
from models.train import train
from models.training import live_log as module
from models.training.checkpoint import Checkpoint
from models.training.live_log import live_log, window_losses
from models.training.train_state import LossPoint, TrainState
from tests.support.training import encoded_world, fitted, recipe_with, small_hinet, train_settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
RECIPE = recipe_with(batch_size=20, epochs=2)  # 50 steps an epoch of 1000 rows: a point every 2


class StoppedError(Exception):
    """Stands for kill -9."""


def rows_of(folder: Path, name: str) -> list[dict[str, float]]:
    """The rows of one curve."""
    with (folder / "plots" / "metrics" / f"{name}.tsv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file, delimiter="\t")]


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def followed(folder: Path, **others: Any) -> Any:
    """A fit of the small network with a log in `folder`."""
    with live_log(folder) as observe:
        return fitted(small_hinet(), RECIPE, observe=observe, **others)


def test_the_curves_are_those_of_the_run(tmp_path: Path) -> None:
    """A row per epoch has its losses and mean AUC; the rows within the epochs have steps that rise, at most 25."""
    result = followed(tmp_path)
    for name in ("train_loss", "valid_loss", "valid_mean_auc"):
        expected = [(e.number, getattr(e, name.removesuffix("_auc"))) for e in result.epochs]
        assert [(row["step"], row[name]) for row in rows_of(tmp_path, f"epoch/{name}")] == [
            (number, pytest.approx(value, abs=1e-6)) for number, value in expected
        ]
    steps = [row["step"] for row in rows_of(tmp_path, "batches/train_loss")]
    assert steps == [float(step) for step in range(2, 101, 2)]
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["step"] == len(result.epochs)
    assert summary["epoch"]["valid_mean_auc"] == pytest.approx(result.epochs[-1].valid_mean, abs=1e-6)


def test_a_point_is_the_mean_loss_since_the_point_before_it() -> None:
    """The means of all batches of an epoch so far become means of the batches in between, anew in each epoch."""
    points = [LossPoint(2, 2, 1.0), LossPoint(4, 4, 0.75), LossPoint(7, 2, 0.4)]
    assert [round(loss, 9) for _, loss in window_losses(points)] == [1.0, 0.5, 0.4]


def test_the_log_is_there_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each point of the loss the files hold all points so far: nobody waits for the end of an epoch."""
    monkeypatch.setattr(module, "SECONDS", 0.0)
    seen: list[int] = []
    with live_log(tmp_path) as observe:
        assert observe is not None

        def follow(state: TrainState) -> None:
            observe(state)
            if state.losses:
                assert len(rows_of(tmp_path, "batches/train_loss")) == len(state.losses)
                seen.append(json.loads((tmp_path / "metrics.json").read_text())["step"])

        fitted(small_hinet(), RECIPE, observe=follow)
    assert set(seen) == {0, 1, 2}


def test_writes_within_an_epoch_are_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that come faster wait in memory, and the end of the epoch writes them."""
    monkeypatch.setattr(module, "SECONDS", 3600.0)
    counts: list[int] = []
    with live_log(tmp_path) as observe:
        assert observe is not None

        def follow(state: TrainState) -> None:
            observe(state)
            path = tmp_path / "plots" / "metrics" / "batches" / "train_loss.tsv"
            counts.append(len(rows_of(tmp_path, "batches/train_loss")) if path.exists() else 0)

        fitted(small_hinet(), RECIPE, observe=follow)
    assert sorted(set(counts)) == [0, 25, 50]


@pytest.mark.parametrize("stop", [13, 51, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (1, 26))])
def test_a_run_that_resumes_writes_the_same_bytes(tmp_path: Path, stop: int) -> None:
    """Stopped at any point and run again from its checkpoint, the log is that of a run without a stop."""
    followed(tmp_path / "whole")
    checkpoint = Checkpoint(tmp_path / "checkpoints", "key", 0.0)
    calls = 0

    def stopping(state: TrainState) -> None:
        nonlocal calls
        calls += 1
        if calls == stop:
            raise StoppedError

    with pytest.raises(StoppedError):
        fitted(small_hinet(), RECIPE, observe=stopping, checkpoint=checkpoint)
    followed(tmp_path / "resumed", checkpoint=checkpoint)
    assert files_of(tmp_path / "resumed") == files_of(tmp_path / "whole")


def test_a_new_run_removes_the_log_of_the_last_one(tmp_path: Path) -> None:
    """The folder holds one run."""
    followed(tmp_path)
    with live_log(tmp_path) as observe:
        fitted(small_hinet(), dataclasses.replace(RECIPE, epochs=1), observe=observe)
    assert [row["step"] for row in rows_of(tmp_path, "epoch/train_loss")] == [1.0]


def test_the_log_changes_nothing_in_the_model(tmp_path: Path) -> None:
    """The weights are the same to the bit with a log and without one."""
    logged, plain = small_hinet(), small_hinet()
    with live_log(tmp_path) as observe:
        fitted(logged, RECIPE, observe=observe)
    fitted(plain, RECIPE)
    for name, weights in plain.state_dict().items():
        assert torch.equal(weights, logged.state_dict()[name])


def test_the_stage_writes_it_outside_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --live the folder has the curves; two runs of the stage write the same bytes."""
    changed = params.load().model_copy(update={"train": train_settings()})
    monkeypatch.setattr(params, "load", lambda: changed)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    arguments = encoded_world(tmp_path, rows=900)
    for name in ("one", "two"):
        train(model="shared_bottom", out=tmp_path / name, live=tmp_path / "live" / name, **arguments)
    first, second = (files_of(tmp_path / "live" / name) for name in ("one", "two"))
    assert first == second
    assert set(first) == {
        "metrics.json",
        *(f"plots/metrics/epoch/{name}.tsv" for name in ("train_loss", "valid_loss", "valid_mean_auc")),
        "plots/metrics/batches/train_loss.tsv",
    }


def test_a_repository_without_a_commit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a git repository without a commit, where DVCLive fails, the message says what to do."""
    Repo.init(str(tmp_path))
    DvcRepo.init(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    log = module.LiveLog(tmp_path / "live")
    with pytest.raises(TrainingError, match="make a first one"):
        log.update(cast(TrainState, SimpleNamespace(epochs=[], losses=[])))
