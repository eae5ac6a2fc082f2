"""A run that is killed and run again ends as if it had never stopped."""

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common import params
from common.errors import TrainingError
from common.paths import ROOT
from models.model_folder import build_network, read_model
from models.train import train
from models.training import batches
from models.training.batches import BatchLoader
from models.training.checkpoint import Checkpoint, checkpoint_key, code_of
from models.training.device import make_deterministic
from models.training.loop import FitResult, TrainingLoop, fit
from tests.support.training import DATA, SCENARIOS, TASKS, opposite_rows, recipe_with, small_hinet, train_settings
from tests.support.training_process import (
    SMALL,
    contents,
    kill_after_checkpoint,
    start,
    train_command,
    write_train_params,
    written_at,
)

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = recipe_with(
    unknown_share=0.1, batch_size=100, learning_rate=0.03, epochs=4, patience=2, clip_gradient_norm=1.0
)


class StoppedError(Exception):
    """Stands for kill -9 where a test stops a run at many steps."""


@pytest.fixture
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not fit: chunks of three blocks of 90, the last of them short."""
    monkeypatch.setattr(batches, "BLOCK_ROWS", 90)
    plain = BatchLoader.__init__
    monkeypatch.setattr(
        BatchLoader, "__init__", lambda self, *rows, **of: plain(self, *rows, resident_bytes=3 * 90 * 40, **of)
    )


class Noisy(nn.Module):
    """A network with its own random numbers and buffers, as some peers of HiNet have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 2))

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Logits from the number and the ids as numbers."""
        return self.layers(torch.cat([categorical.float(), numeric], dim=1))


def noisy(seed: int) -> Noisy:
    """A `Noisy` with weights of this seed."""
    make_deterministic(seed)
    return Noisy()


def run(checkpoint: Checkpoint | None, make: Callable[[int], nn.Module] = small_hinet) -> tuple[Tensor, FitResult]:
    """All weights and buffers of a small network after a fit of four epochs of ten steps, and its result."""
    network = make(5)
    rows, valid = opposite_rows(1000, 0), opposite_rows(600, 1)
    result = fit(network, rows, valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu", checkpoint=checkpoint)
    return torch.cat([values.double().flatten() for values in network.state_dict().values()]), result


def curves(result: FitResult) -> list[tuple[Any, ...]]:
    """All numbers of all epochs."""
    return [(*list(vars(epoch).values())[:-1], epoch.valid_metrics.tolist()) for epoch in result.epochs]


def stop_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Make the run raise StoppedError before the step of this number since its start."""
    real, allowed = TrainingLoop.step, iter(range(1, step))

    def counted(self: TrainingLoop, *share: Any) -> Tensor:
        if next(allowed, None) is None:
            raise StoppedError
        return real(self, *share)

    monkeypatch.setattr(TrainingLoop, "step", counted)


def stopped(monkeypatch: pytest.MonkeyPatch, step: int, call: Callable[[], Any]) -> None:
    """Run `call`, which stops before this step."""
    with monkeypatch.context() as patched:
        stop_before(patched, step)
        with pytest.raises(StoppedError):
            call()


@pytest.mark.integration
@pytest.mark.parametrize("rows", ["resident", "in_chunks"])
def test_stopped_at_any_step_it_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, rows: str
) -> None:
    """Stopped again and again, at the ends of epochs too, weights and curves equal those of a run that was not."""
    if rows == "in_chunks":
        request.getfixturevalue("in_chunks")
    expected_weights, expected = run(None)
    for seconds, stops in ((0, (1, 4, 10, 11, 2, 1, 7)), (1000, (25, 13))):  # written at each step; at ends of epochs
        checkpoint = Checkpoint(tmp_path / f"{seconds}", "key", seconds)
        for step in stops:
            stopped(monkeypatch, step, partial(run, checkpoint))
        weights, result = run(checkpoint)
        assert torch.equal(weights, expected_weights)
        assert curves(result) == curves(expected)


@pytest.mark.integration
def test_random_numbers_and_buffers_of_the_network_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout continues its random numbers, and the statistics of batch norm stay."""
    expected_weights, expected = run(None, noisy)
    checkpoint = Checkpoint(tmp_path, "key", 0)
    for step in (6, 13, 2):
        stopped(monkeypatch, step, partial(run, checkpoint, noisy))
    weights, result = run(checkpoint, noisy)
    assert torch.equal(weights, expected_weights)
    assert curves(result) == curves(expected)


@pytest.mark.integration
def test_a_run_resumes_at_the_exact_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that the checkpoint holds are not run again: 3 before the stop, the other 37 afterwards."""
    checkpoint = Checkpoint(tmp_path, "key", 0)
    stopped(monkeypatch, 4, partial(run, checkpoint))
    stop_before(monkeypatch, 38)
    assert len(run(checkpoint)[1].epochs) == 4


@pytest.mark.integration
def test_a_finished_run_repeats_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its last epoch, before the model was written, a run has the same weights without a step."""
    checkpoint = Checkpoint(tmp_path, "key", 1000)
    weights, _ = run(checkpoint)
    stop_before(monkeypatch, 1)
    assert torch.equal(run(checkpoint)[0], weights)


@pytest.mark.unit
def test_a_damaged_checkpoint_is_ignored_with_a_warning(tmp_path: Path) -> None:
    """A file that is cut off is no checkpoint; where there is no file there is no warning."""
    checkpoint = Checkpoint(tmp_path / "runs", "key", 0)
    assert checkpoint.read() is None
    checkpoint.write({"weights": torch.arange(5)})
    assert checkpoint.read()["weights"].tolist() == [0, 1, 2, 3, 4]
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        assert checkpoint.read() is None


@pytest.mark.unit
def test_a_write_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file replaces the old one only when it is whole."""
    checkpoint = Checkpoint(tmp_path, "key", 0)
    checkpoint.write({"weights": torch.ones(3)})
    monkeypatch.setattr(os, "fsync", lambda number: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        checkpoint.write({"weights": torch.zeros(3)})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.read()["weights"].tolist() == [1, 1, 1]


@pytest.mark.unit
def test_every_fact_and_every_byte_is_in_the_key(tmp_path: Path) -> None:
    """The same run has the same key; another parameter or another label has another."""
    file = tmp_path / "labels.npy"
    file.write_bytes(b"labels")
    key = checkpoint_key({"seed": 1}, [file], {})
    assert key == checkpoint_key({"seed": 1}, [file], {})
    assert key != checkpoint_key({"seed": 2}, [file], {})
    file.write_bytes(b"Labels")
    assert key != checkpoint_key({"seed": 1}, [file], {})


@pytest.fixture
def project_copy(tmp_path: Path) -> Path:
    """A folder with a copy of the project's models/."""
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.unit
@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("networks/hinet.py", True),
        ("networks/sparse_embeddings.py", True),
        ("training/loop.py", True),
        ("evaluation/metrics.py", True),
        ("train.py", True),
        ("evaluation/plots.py", False),
        ("evaluate.py", False),
        ("model_folder.py", False),
        ("peers/mmoe.py", False),
    ],
)
def test_the_key_changes_with_the_code_of_a_step_only(project_copy: Path, file: str, changes: bool) -> None:
    """Networks, training, the metrics that choose the epoch and the stage count; plots and other networks do not."""
    network = small_hinet()
    before = checkpoint_key({}, [], code_of(network, project_copy))
    path = project_copy / "models" / file
    path.write_text(path.read_text() + "\n# changed\n")
    assert (checkpoint_key({}, [], code_of(network, project_copy)) != before) == changes


@pytest.mark.unit
def test_the_key_of_a_peer_has_the_peers_own_file(project_copy: Path) -> None:
    """A change of its file changes the key, of another peer's file does not."""
    config = {"embedding_width": 4, **train_settings().mmoe.shape()}
    network = build_network("mmoe", {"data": dataclasses.asdict(DATA), "config": config})
    keys = []
    for name in (None, "mmoe", "star"):
        if name is not None:
            path = project_copy / "models" / "peers" / f"{name}.py"
            path.write_text(path.read_text() + "\n# changed\n")
        keys.append(checkpoint_key({}, [], code_of(network, project_copy)))
    assert keys[0] != keys[1]
    assert keys[1] == keys[2]


@pytest.mark.unit
def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    """A run whose loss is not finite leaves no checkpoint."""
    checkpoint = Checkpoint(tmp_path / "runs", "key", 0)
    rows, valid = opposite_rows(1000, 0), opposite_rows(500, 1)
    rows.numeric[:] = float("inf")
    options = {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu", "checkpoint": checkpoint}
    with pytest.raises(TrainingError, match=r"set train\.clip_gradient_norm"):
        fit(small_hinet(), rows, valid, RECIPE, **options)
    assert not checkpoint.path.exists()


@pytest.mark.process
@pytest.mark.slow
def test_a_stage_killed_at_random_times_writes_the_same_bytes(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """Kill -9 of the stage's own process, three times; then it ends with the model of a run without checkpoints."""
    chance = random.Random(3)
    command = train_command(stage_arguments, tmp_path / "killed")
    for _ in range(3):
        kill_after_checkpoint(start(command), stage_arguments["checkpoints"], chance.uniform(0, 0.3))
        assert not (tmp_path / "killed").exists()
    assert start(command).wait() == 0
    train(model="hinet", out=tmp_path / "undisturbed", **{**stage_arguments, "checkpoints": None})
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert not (stage_arguments["checkpoints"] / "hinet").exists()


@pytest.mark.integration
def test_a_run_with_other_parameters_does_not_resume_from_this_one(
    stage_arguments: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint belongs to its parameters; when the model is written no checkpoint of any parameters is left."""
    stopped(monkeypatch, 40, lambda: train(model="hinet", out=tmp_path / "out", **stage_arguments))
    assert len(list((stage_arguments["checkpoints"] / "hinet").glob("*.safetensors"))) == 1
    write_train_params(tmp_path, {**SMALL, "epochs": 2, "learning_rate": 0.01})
    train(model="hinet", out=tmp_path / "out", **stage_arguments)
    assert read_model(tmp_path / "out").summary["epochs"] == 2
    assert not (stage_arguments["checkpoints"] / "hinet").exists()


@pytest.mark.integration
def test_a_run_that_stops_with_an_error_writes_nothing(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """No model folder, no half of one, no checkpoint of weights that are not finite."""
    write_train_params(tmp_path, {**SMALL, "learning_rate": 1e30, "checkpoint_seconds": 1000})
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        train(model="hinet", out=tmp_path / "models" / "out", **stage_arguments)
    assert list((tmp_path / "models").iterdir()) == []
    assert not written_at(stage_arguments["checkpoints"])
    assert params.load().train.learning_rate == 1e30
