"""The stage `train` as a process: its command, its parameters, and kill -9 while it runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml

SMALL: dict[str, Any] = {"epochs": 25, "patience": 25, "batch_size": 64, "device": "cpu", "checkpoint_seconds": 0.03}
BRIEF: dict[str, Any] = {**SMALL, "epochs": 3, "checkpoint_seconds": 1000}


def write_train_params(folder: Path, changes: dict[str, Any]) -> None:
    """Write the project's params.yaml with other values of `train`."""
    plain = read_yaml(ROOT / "params.yaml")
    plain["train"] |= changes
    (folder / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")


def train_command(arguments: dict[str, Path], out: Path) -> list[str]:
    """The command of the stage for a HiNet, as in dvc.yaml."""
    paths = [text for name, path in {**arguments, "out": out}.items() for text in (f"--{name}", str(path))]
    return [sys.executable, "-m", "models.train", "--model", "hinet", *paths]


def environment() -> dict[str, str]:
    """The environment in which the project can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start the command on one core, in the current folder."""
    core = min(os.sched_getaffinity(0))
    return subprocess.Popen(
        command,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> None:
    """Wait until `condition` is true; fail after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not true within {seconds} s"
        time.sleep(0.02)


def written_at(folder: Path) -> int:
    """The time of the newest checkpoint below the folder, in nanoseconds; 0 where there is none."""
    try:
        return max((path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")), default=0)
    except FileNotFoundError:
        return 0


def kill_after_checkpoint(process: subprocess.Popen[bytes], checkpoints: Path, seconds: float) -> None:
    """Send SIGKILL so many seconds after the process wrote its next checkpoint."""
    before = written_at(checkpoints)
    wait_until(lambda: written_at(checkpoints) > before or process.poll() is not None)
    time.sleep(seconds)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of the files of a model folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
