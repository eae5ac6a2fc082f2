"""Data-parallel training: each process takes its share of every batch, and the gradients are summed.

All processes draw the same order of rows and mask the same ids, so that together they do what one process does at the
same batch size, within the rounding of a sum. Gradients of embeddings are dense, as all others.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from common.errors import PipelineError, TrainingError
from models.training.batches import TensorBatch

MAX_RESTARTS = 3  # of all processes, each time from the checkpoint


@dataclass(frozen=True)
class Group:
    """The processes that train one network together; a group of one changes nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and shows the progress: rank 0."""
        return self.rank == 0

    def shard(self, batch: TensorBatch) -> tuple[TensorBatch, float]:
        """The rows of a batch that this process takes, and their share of the batch.

        Where a batch has fewer rows than there are processes, some get a row with share 0: every process takes part
        in every sum.
        """
        rows = len(batch.scenario)
        start, end = (rows * rank // self.size for rank in (self.rank, self.rank + 1))
        return TensorBatch(*(column[start : max(end, start + 1)] for column in batch)), (end - start) / rows

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace each parameter's gradient by its sum over all processes; returns the sum of their losses."""
        if self.size == 1:
            return loss
        with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(p.grad.flatten() for p in with_gradient if p.grad is not None), loss.reshape(1)])
        dist.all_reduce(flat)
        pieces = torch.split(flat, [*(p.numel() for p in with_gradient), 1])
        for parameter, piece in zip(with_gradient, pieces, strict=False):
            parameter.grad = piece.view_as(parameter)
        return flat[-1]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before all others, which find what it has written."""
        if not self.is_main:
            dist.barrier()
        try:
            yield
        finally:
            if self.is_main and self.size > 1:
                dist.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """Replace `values` by their sum over all processes, and return them."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def check_same_step(self, step: int, device: torch.device) -> None:
        """Raise TrainingError unless all processes are at this step."""
        bounds = torch.tensor([step, -step], device=device)
        if self.size > 1:
            dist.all_reduce(bounds, dist.ReduceOp.MAX)
        if bounds[0] != -bounds[1]:
            raise TrainingError(
                f"the processes resume from different steps ({-bounds[1]} and {bounds[0]}): put --checkpoints on a "
                "disk that all of them see"
            )


SINGLE_PROCESS = Group()


def launched() -> bool:
    """Whether a launcher (torchrun, or `launch`) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_processes() -> int:
    """The number of processes of the group on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def process_group(device: torch.device) -> Iterator[Group]:
    """The group of this process, joined: over NCCL with a GPU for each process, over gloo on CPUs."""
    if not launched():
        yield SINGLE_PROCESS
        return
    _die_with_parent()
    if device.type == "cuda":
        _select_gpu(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def launch(function: Callable[..., None], processes: int, arguments: Mapping[str, Any]) -> None:
    """Call `function` with `arguments` in so many processes on this machine.

    When a process dies all of them are restarted, from the checkpoint. Raises the PipelineError of a process at once,
    since a restart would not help, or TrainingError after MAX_RESTARTS.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="train",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=MAX_RESTARTS,
        start_method="spawn",
    )
    try:
        errors = elastic_launch(config, _call)(function, dict(arguments))
    except ChildFailedError as error:
        raise TrainingError(
            f"a process of the training died {MAX_RESTARTS + 1} times ({error.get_first_failure()[1].message}); the "
            "checkpoint is kept: fix the cause and run again"
        ) from error
    for failure in filter(None, errors.values()):
        raise failure


def _call(function: Callable[..., None], arguments: dict[str, Any]) -> PipelineError | None:
    try:
        function(**arguments)
    except PipelineError as error:
        return error
    return None


def _select_gpu(number: int) -> None:
    if number >= torch.cuda.device_count():
        raise TrainingError(
            f"process {number} needs its own GPU, found {torch.cuda.device_count()}: lower train.processes, or set "
            "train.device to cpu"
        )
    torch.cuda.set_device(number)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its launcher dies: an orphan would go on beside the next run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
