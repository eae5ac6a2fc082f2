"""Several processes that fit one network: each takes its share of every batch, and the gradients are added up.

All of them draw the same order and hide the same ids, so that together they do what one process does at the same batch
size, within the rounding of a sum. Gradients of embedding tables are dense, as all others.
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
import torch.distributed as distributed
from torch import Tensor, nn

from common.errors import PipelineError, TrainingError
from models.training.batches import Part

RESTARTS = 3  # of all processes, each time from the checkpoint, before a run is given up


@dataclass(frozen=True)
class Group:
    """The processes that fit one network together; a group of one leaves everything as it is."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def share(self, part: Part) -> tuple[Part, float]:
        """The rows of a batch that are for this process, and what share of the batch they are.

        Where a batch has fewer rows than there are processes some get a row that counts 0: every process takes part
        in every sum.
        """
        rows = len(part.scenario)
        start, end = (rows * rank // self.size for rank in (self.rank, self.rank + 1))
        return Part(*(column[start : max(end, start + 1)] for column in part)), (end - start) / rows

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Give each parameter the sum of its gradients in all processes; returns the sum of their losses."""
        if self.size == 1:
            return loss
        reached = [parameter for parameter in parameters if parameter.grad is not None]
        together = torch.cat([*(p.grad.flatten() for p in reached if p.grad is not None), loss.reshape(1)])
        distributed.all_reduce(together)
        for parameter, piece in zip(reached, together.split([*(p.numel() for p in reached), 1]), strict=False):
            parameter.grad = piece.view_as(parameter)
        return together[-1]

    def add(self, values: Tensor) -> Tensor:
        """The sum of `values` of all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, position: int, device: torch.device) -> None:
        """Raise TrainingError unless all processes are at this position."""
        ends = torch.tensor([position, -position], device=device)
        if self.size > 1:
            distributed.all_reduce(ends, distributed.ReduceOp.MAX)
        if ends[0] != -ends[1]:
            raise TrainingError(
                f"the processes go on from different steps ({-ends[1]} and {ends[0]}): put --checkpoints on a disk "
                "that all of them see"
            )


def asked() -> bool:
    """Whether a launcher (torchrun, or `launch`) started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def neighbours() -> int:
    """Processes of the group on this machine: they share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that this process is one of: over NCCL on GPUs, one each, over gloo on CPUs."""
    if not asked():
        yield Group()
        return
    _die_with_parent()
    if device.type == "cuda":
        _take_gpu(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def launch(function: Callable[..., None], processes: int, arguments: Mapping[str, Any]) -> None:
    """Call `function` in so many processes on this machine; a killed one starts all anew, from the checkpoint.

    Raises the PipelineError that stopped them, which no restart would mend, or TrainingError after RESTARTS.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="train",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=RESTARTS,
        start_method="spawn",
    )
    try:
        stopped = elastic_launch(config, _call)(function, dict(arguments))
    except ChildFailedError as error:
        raise TrainingError(
            f"a process of the training died {RESTARTS + 1} times ({error.get_first_failure()[1].message}); what is "
            "finished is in the checkpoint: mend the cause and run again"
        ) from error
    for reason in filter(None, stopped.values()):
        raise reason


def _call(function: Callable[..., None], arguments: dict[str, Any]) -> PipelineError | None:
    try:
        function(**arguments)
    except PipelineError as error:
        return error
    return None


def _take_gpu(number: int) -> None:
    if number >= torch.cuda.device_count():
        raise TrainingError(
            f"process {number} finds {torch.cuda.device_count()} GPUs: lower train.processes, or set "
            "train.device to cpu"
        )
    torch.cuda.set_device(number)


def _die_with_parent() -> None:
    """Have the kernel kill this process when its launcher dies: an orphan would train on beside the next run."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
