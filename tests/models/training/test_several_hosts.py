"""Agents of torchrun, one for each host, train one network; where a process or a host is lost the others go on."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.train import train
from models.training.distributed import OWN_STORE
from tests.support.dvc_project import free_port
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

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
LONG = {**SMALL, "epochs": 30, "patience": 30}
SECONDS = 180


class Hosts:
    """Two agents on this machine, started one after the other: the first holds the rendezvous."""

    def __init__(self) -> None:
        self.agents: list[subprocess.Popen[bytes]] = []

    def start(self, command: list[str], nodes: str) -> None:
        """Start both agents with a stage's command, a process each."""
        port = free_port()
        options = [f"--nnodes={nodes}", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=hinet"]
        options += [f"--rdzv-endpoint=127.0.0.1:{port}", "--max-restarts=3", "--rdzv-conf=last_call_timeout=12"]
        for _ in range(2):
            launch = [sys.executable, "-m", "torch.distributed.run", *options, *command[1:]]
            self.agents.append(subprocess.Popen(launch, env=environment() | OWN_STORE, stderr=subprocess.DEVNULL))
            wait_until(lambda: any(c.laddr.port == port and c.status == "LISTEN" for c in psutil.net_connections()))

    def worker(self, number: int) -> psutil.Process:
        """The process of the stage that an agent started."""
        wait_until(lambda: self._children(number))
        return self._children(number)[0]

    def end(self) -> list[int]:
        """The exit statuses of both agents."""
        return [agent.wait(SECONDS) for agent in self.agents]

    def _children(self, number: int) -> list[psutil.Process]:
        return psutil.Process(self.agents[number].pid).children()


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Two agents, which are gone when the test is over, with their workers."""
    both = Hosts()
    yield both
    for agent in both.agents:
        agent.kill()
        agent.wait()


def after_a_checkpoint(folder: Path) -> Path:
    """The checkpoint, once an epoch is in it."""
    wait_until(lambda: written_at(folder) and "epoch/1/means" in load_file(next(folder.rglob("*.safetensors"))))
    return next(folder.rglob("*.safetensors"))


def test_two_agents_equal_one_process(stage_arguments: dict[str, Path], tmp_path: Path, hosts: Hosts) -> None:
    """Weights and metrics are those of one process within rounding."""
    write_train_params(tmp_path, BRIEF)
    hosts.start(train_command(stage_arguments, tmp_path / "two"), "2")
    assert hosts.end() == [0, 0]
    train(model="hinet", out=tmp_path / "one", **stage_arguments)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=1e-3, atol=1e-5)
    curves = [json.loads((tmp_path / name / "curves.json").read_text()) for name in ("one", "two")]
    for own, other in zip(*curves, strict=True):
        assert other["train_loss"] == pytest.approx(own["train_loss"], abs=1e-6)
        assert other["valid_mean_auc"] == pytest.approx(own["valid_mean_auc"], abs=1e-4)


def test_a_killed_worker_costs_no_bit(stage_arguments: dict[str, Path], tmp_path: Path, hosts: Hosts) -> None:
    """Both agents start their workers again, which go on from the checkpoint, to the bytes of an undisturbed run."""
    write_train_params(tmp_path, {**LONG, "processes": 2})
    train(model="hinet", out=tmp_path / "undisturbed", **stage_arguments)
    write_train_params(tmp_path, LONG)
    hosts.start(train_command(stage_arguments, tmp_path / "killed"), "2")
    after_a_checkpoint(stage_arguments["checkpoints"])
    hosts.worker(1).send_signal(signal.SIGKILL)
    assert hosts.end() == [0, 0]
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")


def test_a_lost_host_leaves_the_other_at_work(stage_arguments: dict[str, Path], tmp_path: Path, hosts: Hosts) -> None:
    """With --nnodes 1:2 one agent goes on from the checkpoint of two: a loss that only that has is in the curves."""
    write_train_params(tmp_path, LONG)
    hosts.start(train_command(stage_arguments, tmp_path / "out"), "1:2")
    checkpoint = after_a_checkpoint(stage_arguments["checkpoints"])
    lost, kept = hosts.worker(1), hosts.worker(0)
    hosts.agents[1].kill()
    assert not psutil.wait_procs([lost, kept], timeout=30)[1], "a worker outlives the group"
    state = load_file(checkpoint)
    state["epoch/1/means"][0] = 123.0
    save_file(state, checkpoint)
    assert hosts.end() == [0, -signal.SIGKILL]
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert curves[0]["train_loss"] == 123.0
    assert len(curves) == LONG["epochs"]
