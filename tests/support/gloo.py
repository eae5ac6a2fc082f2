"""Several processes in one group over gloo, forked from the test, which has torch imported already."""

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from models.training.distributed import Group

SECONDS = 60


def together(size: int, folder: Path, function: Callable[[Group], Any]) -> list[Any]:
    """What `function` returns in each of `size` processes, by rank: plain data and tensors.

    `folder` is an empty one, where the processes meet. Fails where a process does.
    """
    context = multiprocessing.get_context("fork")
    groups = [Group(rank, size) for rank in range(size)]
    processes = [context.Process(target=_member, args=(folder, group, function)) for group in groups]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*multi-threaded", category=DeprecationWarning
        )  # from Python 3.12 on
        for process in processes:
            process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()  # one that waits for another
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(_result(folder, group)) for group in groups]


def _member(folder: Path, group: Group, function: Callable[[Group], Any]) -> None:
    dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=group.rank, world_size=group.size)
    torch.save(function(group), _result(folder, group))
    dist.barrier()
    dist.destroy_process_group()


def _result(folder: Path, group: Group) -> Path:
    return folder / f"{group.rank}.pt"
