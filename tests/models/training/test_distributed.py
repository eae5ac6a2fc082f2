"""Several processes train one network as one process does; a process that dies is started again."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import ParameterError, TrainingError
from models.train import train
from models.training import distributed
from models.training.distributed import Group
from tests.support.training_process import (
    BRIEF,
    SMALL,
    contents,
    environment,
    train_command,
    wait_until,
    write_train_params,
    written_at,
)

pytestmark = pytest.mark.usefixtures("one_thread")
LONG = {**SMALL, "processes": 2, "epochs": 20, "patience": 20}


@pytest.mark.unit
def test_processes_at_different_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one process read a checkpoint and another did not, the run stops and says what to do."""
    other = torch.tensor([40, -40])
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda ends, how: ends.copy_(torch.maximum(ends, other)))
    Group(0, 2).check_same_step(40, torch.device("cpu"))
    with pytest.raises(TrainingError, match=r"different steps \(0 and 40\): put --checkpoints on a disk"):
        Group(0, 2).check_same_step(0, torch.device("cpu"))


@pytest.mark.unit
def test_more_processes_than_gpus_are_refused() -> None:
    """A process without its own GPU says which parameter to lower."""
    with pytest.raises(TrainingError, match=r"lower train\.processes"):
        distributed._select_gpu(torch.cuda.device_count())


def run(command: list[str]) -> None:
    """Run to the end, in the current folder; one thread for each process."""
    done = subprocess.run(
        command, env=environment() | distributed.OWN_STORE, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def torchrun(command: list[str]) -> list[str]:
    """The same command in two processes."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *command[1:]]


@pytest.mark.process
def test_two_processes_equal_one_within_rounding(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """With torchrun two processes over gloo end with the weights of one process at the same batch size.

    One of them writes the curves: an epoch has one row.
    """
    write_train_params(tmp_path, BRIEF)
    run(torchrun([*train_command(stage_arguments, tmp_path / "two"), "--live", str(tmp_path / "live")]))
    train(model="hinet", out=tmp_path / "one", **stage_arguments)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-5)
    curve = (tmp_path / "live" / "plots" / "metrics" / "epoch" / "train_loss.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in curve] == ["step", *map(str, range(1, BRIEF["epochs"] + 1))]


@pytest.mark.process
def test_an_error_of_the_processes_is_raised_once(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """An error that no restart would fix is raised unchanged in the process that started the others."""
    write_train_params(tmp_path, {**BRIEF, "processes": 2})
    with pytest.raises(ParameterError, match="--model resnet: expected one of"):
        train(model="resnet", out=tmp_path / "out", **stage_arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.process
@pytest.mark.slow
def test_killed_processes_restart_and_end_in_the_same_bits(stage_arguments: dict[str, Path], tmp_path: Path) -> None:
    """The stage restarts a killed rank; a killed stage takes its ranks with it and resumes when it is run again."""
    write_train_params(tmp_path, LONG)
    run(train_command(stage_arguments, tmp_path / "undisturbed"))
    command = train_command(stage_arguments, tmp_path / "killed")
    stage = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    first = ranks(stage, stage_arguments["checkpoints"], set())
    first[-1].send_signal(signal.SIGKILL)
    restarted = ranks(stage, stage_arguments["checkpoints"], set(first))
    stage.kill()
    assert stage.wait() == -signal.SIGKILL
    assert not psutil.wait_procs(restarted, timeout=10)[1], "orphans go on"
    assert not (tmp_path / "killed").exists()
    run(command)
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def ranks(stage: "subprocess.Popen[bytes]", checkpoints: Path, but: set[psutil.Process]) -> list[psutil.Process]:
    """The two processes that train now, in the order of their start, after their next checkpoint."""

    def running() -> list[psutil.Process]:
        children = psutil.Process(stage.pid).children(recursive=True)
        spawned = (p for p in children if p not in but and "spawn_main" in " ".join(p.cmdline()))
        return sorted(spawned, key=lambda p: p.pid)

    wait_until(lambda: len(running()) == 2)
    before = written_at(checkpoints)
    wait_until(lambda: written_at(checkpoints) > before)
    return running()


def join_late() -> None:
    """Two processes join, the second dies; of the next two the first comes three seconds after the other."""
    first, again = os.environ["RANK"] == "0", os.environ["TORCHELASTIC_RESTART_COUNT"] != "0"
    if first and again:
        time.sleep(3)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=20))
    dist.barrier()
    if not first and not again:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


@pytest.mark.process
@pytest.mark.slow
def test_a_restart_does_not_wait_for_the_dead() -> None:
    """A process that starts faster than another waits for it, and not at the address of the one that died."""
    distributed.launch(join_late, 2, {})


@pytest.mark.process
@pytest.mark.slow
def test_another_number_of_processes_goes_on_from_the_checkpoint(
    stage_arguments: dict[str, Path], tmp_path: Path
) -> None:
    """One process is killed, two go on: a loss that only the checkpoint has stands in the curves of the model."""
    write_train_params(tmp_path, {**LONG, "processes": 1})
    command = train_command(stage_arguments, tmp_path / "out")
    stage = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    wait_until(lambda: "epoch/1/means" in _checkpoint(stage_arguments["checkpoints"]))
    stage.kill()
    stage.wait()
    (checkpoint,) = stage_arguments["checkpoints"].rglob("*.safetensors")
    state = load_file(checkpoint)
    state["epoch/1/means"][0] = 123.0
    save_file(state, checkpoint)
    run(torchrun(command))
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert curves[0]["train_loss"] == 123.0
    assert len(curves) == LONG["epochs"]


def _checkpoint(folder: Path) -> dict[str, Tensor]:
    """The tensors of the only checkpoint in the folder; none before it is written."""
    files = list(folder.rglob("*.safetensors"))
    return load_file(files[0]) if files else {}
