"""A run that is killed and run again ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from common import params, stage
from common.errors import TrainingError
from common.paths import ROOT
from models.model_folder import read_model
from models.train import train
from models.training import batches
from models.training.batches import Rows
from models.training.checkpoint import Checkpoint, key_of
from models.training.loop import Fitted, Fitting, fit, repeatable
from tests.models.test_train import encoded
from tests.models.training.test_loop import SCENARIOS, TASKS, changed, hinet, opposite

RECIPE = changed(unknown_share=0.1, batch_size=100, learning_rate=0.03, epochs=4, patience=2, clip_gradient_norm=1.0)
SMALL: dict[str, Any] = {"epochs": 25, "patience": 25, "batch_size": 64, "device": "cpu", "checkpoint_seconds": 0.03}


class StoppedError(Exception):
    """Stands for kill -9 where a test goes through many moments."""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that do not fit: chunks of three blocks of 90, the last of them short."""
    monkeypatch.setattr(batches, "BLOCK_ROWS", 90)
    plain = Rows.__init__
    monkeypatch.setattr(Rows, "__init__", lambda self, tensors, device: plain(self, tensors, device, 3 * 90 * 40))


class Noisy(nn.Module):
    """A network with chance and buffers of its own, as some peers of HiNet have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), nn.Linear(3, 2))

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Logits from the number and the ids as numbers."""
        return self.layers(torch.cat([categorical.float(), numeric], dim=1))


def noisy(seed: int) -> Noisy:
    """One with weights of this seed."""
    repeatable(seed)
    return Noisy()


def run(checkpoint: Checkpoint | None, make: Callable[[int], nn.Module] = hinet) -> tuple[Tensor, Fitted]:
    """All that a small network holds after a fit of four epochs of ten steps, and its curves."""
    network = make(5)
    train, valid = opposite(1000, 0), opposite(600, 1)
    result = fit(network, train, valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu", checkpoint=checkpoint)
    return torch.cat([values.double().flatten() for values in network.state_dict().values()]), result


def curves(fitted: Fitted) -> list[tuple[Any, ...]]:
    """All figures of all epochs."""
    return [(*list(vars(epoch).values())[:-1], epoch.valid_auc.tolist()) for epoch in fitted.epochs]


def stop_before(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the run die before the step of this number since its start."""
    real, taken = Fitting.step, iter(range(1, step))

    def counted(self: Fitting, part: Any) -> Tensor:
        if next(taken, None) is None:
            raise StoppedError
        return real(self, part)

    monkeypatch.setattr(Fitting, "step", counted)


def die(monkeypatch: pytest.MonkeyPatch, step: int, call: Callable[[], Any]) -> None:
    """`call` that dies before this step."""
    with monkeypatch.context() as patched:
        stop_before(patched, step)
        with pytest.raises(StoppedError):
            call()


@pytest.mark.parametrize("rows", ["resident", "in_chunks"])
def test_stopped_at_any_step_it_ends_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, rows: str
) -> None:
    """Stopped again and again, at the ends of epochs too, weights and curves equal those of a run that was not."""
    if rows == "in_chunks":
        request.getfixturevalue("in_chunks")
    undisturbed, expected = run(None)
    for seconds, lives in ((0, (1, 4, 10, 11, 2, 1, 7)), (1000, (25, 13))):  # written at each step; at ends of epochs
        checkpoint = Checkpoint(tmp_path / f"{seconds}", "key", seconds)
        for life in lives:
            die(monkeypatch, life, partial(run, checkpoint))
        weights, found = run(checkpoint)
        assert torch.equal(weights, undisturbed)
        assert curves(found) == curves(expected)


def test_chance_and_buffers_of_the_network_go_on_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws on where it stopped, and the statistics of batch norm stay."""
    undisturbed, expected = run(None, noisy)
    checkpoint = Checkpoint(tmp_path, "key", 0)
    for life in (6, 13, 2):
        die(monkeypatch, life, partial(run, checkpoint, noisy))
    weights, found = run(checkpoint, noisy)
    assert torch.equal(weights, undisturbed)
    assert curves(found) == curves(expected)


def test_a_run_goes_on_at_the_exact_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that the checkpoint holds are not taken again: 3 before the stop, the other 37 afterwards."""
    checkpoint = Checkpoint(tmp_path, "key", 0)
    die(monkeypatch, 4, partial(run, checkpoint))
    stop_before(monkeypatch, 38)
    assert len(run(checkpoint)[1].epochs) == 4


def test_a_finished_run_takes_no_step_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after its last epoch, before the model was written, a run has the same weights without a step."""
    checkpoint = Checkpoint(tmp_path, "key", 1000)
    weights, _ = run(checkpoint)
    stop_before(monkeypatch, 1)
    assert torch.equal(run(checkpoint)[0], weights)


def test_a_damaged_checkpoint_is_left_with_a_warning(tmp_path: Path) -> None:
    """A file that is cut off is no checkpoint; none at all is none without a word."""
    checkpoint = Checkpoint(tmp_path / "runs", "key", 0)
    assert checkpoint.read() is None
    checkpoint.write({"weights": torch.arange(5)})
    assert checkpoint.read()["weights"].tolist() == [0, 1, 2, 3, 4]
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-3])
    with pytest.warns(UserWarning, match="training starts from the beginning"):
        assert checkpoint.read() is None


def test_a_write_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file takes the place of the old one only when it is whole."""
    checkpoint = Checkpoint(tmp_path, "key", 0)
    checkpoint.write({"weights": torch.ones(3)})
    monkeypatch.setattr(os, "fsync", lambda number: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        checkpoint.write({"weights": torch.zeros(3)})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert checkpoint.read()["weights"].tolist() == [1, 1, 1]


def test_every_fact_and_every_byte_is_in_the_key(tmp_path: Path) -> None:
    """The same run has the same key; another parameter or another label has another."""
    file = tmp_path / "labels.npy"
    file.write_bytes(b"labels")
    key = key_of({"seed": 1}, [file])
    assert key == key_of({"seed": 1}, [file])
    assert key != key_of({"seed": 2}, [file])
    file.write_bytes(b"Labels")
    assert key != key_of({"seed": 1}, [file])


def test_weights_that_are_not_finite_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes wrong leaves no checkpoint from which it could only go wrong again."""
    checkpoint = Checkpoint(tmp_path / "runs", "key", 0)
    train = opposite(1000, 0)
    train.numeric[:] = float("inf")
    with pytest.raises(TrainingError, match=r"set train\.clip_gradient_norm"):
        fit(
            hinet(),
            train,
            opposite(500, 1),
            RECIPE,
            scenarios=SCENARIOS,
            tasks=TASKS,
            device="cpu",
            checkpoint=checkpoint,
        )
    assert not checkpoint.path.exists()


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A folder with params.yaml and the tiny world encoded, which is the current one; the stage's arguments."""
    write_params(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return {**encoded(tmp_path, rows=1500), "checkpoints": tmp_path / "checkpoints"}


def write_params(folder: Path, changes: dict[str, Any]) -> None:
    """params.yaml with other values of `train`."""
    plain = yaml.safe_load((ROOT / "params.yaml").read_text())
    plain["train"] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(plain))


def command(given: dict[str, Path], out: Path) -> list[str]:
    """What the pipeline runs."""
    paths = [text for name, path in {**given, "out": out}.items() for text in (f"--{name}", str(path))]
    return [sys.executable, "-m", "models.train", "--model", "hinet", *paths]


def start(line: list[str]) -> subprocess.Popen[bytes]:
    """The stage in a process of its own, on one core, in the current folder."""
    core = min(os.sched_getaffinity(0))
    return subprocess.Popen(
        line,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def wait_for(what: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until `what` is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.02)


def written(folder: Path) -> int:
    """When the checkpoint below the folder was written last; 0 where there is none."""
    try:
        return max((path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")), default=0)
    except FileNotFoundError:
        return 0


def kill(process: subprocess.Popen[bytes], checkpoints: Path, seconds: float) -> None:
    """Kill -9, so long after it wrote its first checkpoint."""
    before = written(checkpoints)
    wait_for(lambda: written(checkpoints) > before or process.poll() is not None)
    time.sleep(seconds)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it was over before it could be killed"


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a model folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_killed_at_random_moments_the_stage_writes_the_same_bytes(given: dict[str, Path], tmp_path: Path) -> None:
    """Kill -9 of the stage's own process, three times; then it ends with the model of a run without checkpoints."""
    chance = random.Random(3)
    for _ in range(3):
        kill(start(command(given, tmp_path / "killed")), given["checkpoints"], chance.uniform(0, 0.3))
        assert not (tmp_path / "killed").exists()
    assert start(command(given, tmp_path / "killed")).wait() == 0
    train(model="hinet", out=tmp_path / "undisturbed", **{**given, "checkpoints": None})
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
    assert not (given["checkpoints"] / "hinet").exists()


def test_other_parameters_do_not_go_on_from_this_run(
    given: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is for its own parameters; when the model is written none is left, of whatever parameters."""
    die(monkeypatch, 40, lambda: train(model="hinet", out=tmp_path / "out", **given))
    assert len(list((given["checkpoints"] / "hinet").glob("*.safetensors"))) == 1
    write_params(tmp_path, {**SMALL, "epochs": 2, "learning_rate": 0.01})
    train(model="hinet", out=tmp_path / "out", **given)
    assert read_model(tmp_path / "out").summary["epochs"] == 2
    assert not (given["checkpoints"] / "hinet").exists()


def test_a_run_that_stops_with_an_error_writes_nothing(given: dict[str, Path], tmp_path: Path) -> None:
    """No model folder, no half of one, no checkpoint of weights that are not finite."""
    write_params(tmp_path, {**SMALL, "learning_rate": 1e30, "checkpoint_seconds": 1000})
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        train(model="hinet", out=tmp_path / "models" / "out", **given)
    assert not (tmp_path / "models").exists()
    assert not written(given["checkpoints"])
    assert params.load().train.learning_rate == 1e30
