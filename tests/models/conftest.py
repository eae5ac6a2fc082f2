"""Fixtures of the tests of networks, training and evaluation."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread of torch; its threads and settings as before afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def stage_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The arguments of the stage `train` for the tiny world; its folder, with params.yaml, is the current one."""
    from common import stage
    from tests.support.training import encoded_world
    from tests.support.training_process import SMALL, write_train_params

    write_train_params(tmp_path, SMALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return {**encoded_world(tmp_path, rows=1500), "checkpoints": tmp_path / "checkpoints"}
