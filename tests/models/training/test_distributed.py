"""Several processes fit one network as one process does; what dies is started again."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from common.errors import ParameterError, TrainingError
from common.paths import ROOT
from models.train import train
from models.training import distributed
from models.training.batches import Part, Rows
from models.training.distributed import Group
from models.training.loss import weighted_loss
from tests.models.training.test_checkpoint import SMALL, command, contents, given, wait_for, write_params, written  # noqa: F401
from tests.models.training.test_loop import hinet, opposite

LONG = {**SMALL, "processes": 2, "epochs": 20, "patience": 20}
BRIEF = {**SMALL, "epochs": 3, "checkpoint_seconds": 1000}


def batch(rows: int) -> Part:
    """The first rows of the two opposite scenarios."""
    return next(Rows(opposite(rows, 0), torch.device("cpu")).in_order())


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_the_batch(rows: int, size: int) -> None:
    """The processes' rows are those of the batch, once each, in order; only a row that counts 0 comes twice."""
    whole, shares = batch(rows), [Group(rank, size).share(batch(rows)) for rank in range(size)]
    counted = [part for part, share in shares if share]
    assert torch.equal(torch.cat([part.numeric for part in counted]), whole.numeric)
    assert [share for _, share in shares] == pytest.approx([len(p.scenario) / rows if s else 0 for p, s in shares])
    assert all(len(part.scenario) for part, _ in shares)


@pytest.mark.parametrize(("rows", "size"), [(64, 2), (65, 2), (64, 3), (2, 3)])
def test_gradients_of_the_shares_add_up_to_the_batchs(rows: int, size: int) -> None:
    """What the processes' gradients sum to is the gradient of the whole batch, whatever its size."""
    network, whole = hinet(), batch(rows)
    loss, gradients = losses(network, whole, 1.0)
    parts = [losses(network, *Group(rank, size).share(whole)) for rank in range(size)]
    torch.testing.assert_close(sum(part for part, _ in parts), loss)
    for number, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(found[number] for _, found in parts), gradient)


def losses(network: nn.Module, part: Part, share: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The share of the loss, and its gradients."""
    loss = weighted_loss(network(*part[:4]), part.labels, part.scenario, torch.ones(2, 2)) * share
    return loss.detach(), torch.autograd.grad(loss, list(network.parameters()))


def test_processes_at_different_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one process found a checkpoint and another did not, the run stops and says what to do."""
    other = torch.tensor([40, -40])
    monkeypatch.setattr(distributed.distributed, "all_reduce", lambda ends, how: ends.copy_(torch.maximum(ends, other)))
    Group(0, 2).agree(40, torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"different steps \(0 and 40\): put --checkpoints on a disk"):
        Group(0, 2).agree(0, torch.device("cpu"))


def test_more_processes_than_gpus_are_refused() -> None:
    """A process that finds no GPU of its own says what to lower."""
    with pytest.raises(TrainingError, match=r"lower train\.processes"):
        distributed._take_gpu(torch.cuda.device_count())


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def run(line: list[str]) -> None:
    """Run to the end, in the current folder; one thread for each process."""
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def torchrun(line: list[str]) -> list[str]:
    """The same command in two processes."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *line[1:]]


def test_two_processes_are_one_within_rounding(given: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    """With torchrun two processes over gloo end with the weights of one process at the same batch size."""
    write_params(tmp_path, BRIEF)
    run(torchrun(command(given, tmp_path / "two")))
    train(model="hinet", out=tmp_path / "one", **given)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-5)


def test_what_is_wrong_is_said_once(given: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    """An error that no restart would mend comes out of the processes as it is, in the process that started them."""
    write_params(tmp_path, {**BRIEF, "processes": 2})
    with pytest.raises(ParameterError, match="--model resnet: expected one of"):
        train(model="resnet", out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_processes_come_back_and_end_in_the_same_bits(given: dict[str, Path], tmp_path: Path) -> None:  # noqa: F811
    """A killed rank is started again by the stage; a killed stage takes its ranks along and goes on when run again."""
    write_params(tmp_path, LONG)
    run(command(given, tmp_path / "undisturbed"))
    stage = subprocess.Popen(command(given, tmp_path / "killed"), env=environment(), stderr=subprocess.DEVNULL)
    first = ranks(stage, given["checkpoints"], set())
    first[-1].send_signal(signal.SIGKILL)
    again = ranks(stage, given["checkpoints"], set(first))
    stage.kill()
    assert stage.wait() == -signal.SIGKILL
    assert not psutil.wait_procs(again, timeout=10)[1], "orphans train on"
    assert not (tmp_path / "killed").exists()
    run(command(given, tmp_path / "killed"))
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def environment() -> dict[str, str]:
    """The project can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def ranks(stage: "subprocess.Popen[bytes]", checkpoints: Path, but: set[psutil.Process]) -> list[psutil.Process]:
    """The two processes that train now, in the order of their start, after their next checkpoint."""

    def found() -> list[psutil.Process]:
        below = psutil.Process(stage.pid).children(recursive=True)
        return sorted((p for p in below if p not in but and "spawn_main" in " ".join(p.cmdline())), key=lambda p: p.pid)

    wait_for(lambda: len(found()) == 2)
    before = written(checkpoints)
    wait_for(lambda: written(checkpoints) > before)
    return found()
