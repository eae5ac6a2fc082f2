"""Several processes in one group over gloo, forked from a server that has torch imported already.

Not from the test: what other tests have started in its process (threads, a JVM, connections) ends a forked one.
"""

import multiprocessing
import multiprocessing.context
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
import torch.distributed as dist

from common.paths import ROOT
from models.training.distributed import Group

SECONDS = 60


def together(size: int, folder: Path, function: Callable[[Group], Any]) -> list[Any]:
    """What `function` returns in each of `size` processes, by rank: plain data and tensors.

    `folder` is an empty one, where the processes meet. Fails where a process does.
    """
    context = _server()
    groups, pickled = [Group(rank, size) for rank in range(size)], cloudpickle.dumps(function)
    processes = [context.Process(target=_member, args=(folder, group, pickled)) for group in groups]
    for process in processes:
        process.start()
    for process in processes:
        process.join(SECONDS)
        process.kill()  # one that waits for another
    assert [process.exitcode for process in processes] == [0] * size, [process.exitcode for process in processes]
    return [torch.load(_result(folder, group)) for group in groups]


def _server() -> multiprocessing.context.ForkServerContext:
    """The context of the server, which is started by the first call and imports what the processes need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.training", "torch.distributed.tensor"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # the server does not get the path of the test
        forkserver.ensure_running()
    return context


def _member(folder: Path, group: Group, pickled: bytes) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'store'}", rank=group.rank, world_size=group.size)
    torch.save(cloudpickle.loads(pickled)(group), _result(folder, group))
    dist.barrier()
    dist.destroy_process_group()


def _result(folder: Path, group: Group) -> Path:
    return folder / f"{group.rank}.pt"
