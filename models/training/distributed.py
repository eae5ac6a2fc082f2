"""Data-parallel training: each process takes its share of every batch, and the gradients are summed.

All processes draw the same order of rows and mask the same ids, so that together they do what one process does at the
same batch size, within the rounding of a sum.
"""

import ctypes
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from common.errors import PipelineError, TrainingError

MAX_RESTARTS = 3  # of all processes, each time from the checkpoint
# Else torch 2.13 gives the processes of a restart the store of those before, where they find addresses of dead ones.
OWN_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@dataclass(frozen=True)
class Group:
    """The processes that train one network together; a group of one changes nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and shows the progress: rank 0."""
        return self.rank == 0

    def cut(self, rows: int) -> tuple[int, int]:
        """Which of so many rows are this process's: the first, and the first behind them."""
        return rows * self.rank // self.size, rows * (self.rank + 1) // self.size

    def share(self, weight: Tensor, share: float) -> Tensor | float:
        """What the mean loss of this process's rows counts in that of the batch.

        That is their `share` of the rows, or of the weights [B, 1] where there are any.
        """
        if self.size == 1 or not weight.shape[1]:
            return share
        own = weight.sum()
        total = self.sum(own.clone())
        return torch.where(total > 0, own / total, total)

    def sum_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor, share: float = 1.0) -> Tensor:
        """Replace each parameter's gradient by its sum over all processes; returns the sum of their losses.

        Of sparse gradients the rows are exchanged that a process has; with `share` 0 it has none.
        """
        if self.size == 1:
            return loss
        with_gradient = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        dense = [(parameter, gradient) for parameter, gradient in with_gradient if not gradient.is_sparse]
        flat = torch.cat([*(gradient.flatten() for _, gradient in dense), loss.reshape(1)])
        dist.all_reduce(flat)
        pieces = torch.split(flat, [*(gradient.numel() for _, gradient in dense), 1])
        for (parameter, _), piece in zip(dense, pieces, strict=False):
            parameter.grad = piece.view_as(parameter)
        for parameter, gradient in with_gradient:
            if gradient.is_sparse:
                parameter.grad = self._sum_sparse(gradient.coalesce(), none=not share)
        return flat[-1]

    def _sum_sparse(self, gradient: Tensor, *, none: bool) -> Tensor:
        """The sum of a coalesced sparse gradient [rows, E] over all processes, coalesced, the same bits in all.

        Each sends as many rows as the process with the most of them: collectives exchange tensors of one shape.
        """
        ids, values = gradient.indices()[0], gradient.values()
        if none:
            ids, values = ids[:0], values[:0]
        counts = self._gather(torch.tensor([len(ids)], device=ids.device)).flatten().tolist()
        padding = max(counts) - len(ids)
        all_ids = self._gather(F.pad(ids, (0, padding)))  # [processes, most rows]
        all_values = self._gather(F.pad(values, (0, 0, 0, padding)))  # [processes, most rows, E]
        own = torch.arange(max(counts), device=ids.device) < torch.tensor(counts, device=ids.device).unsqueeze(1)
        summed = torch.sparse_coo_tensor(
            all_ids[own].unsqueeze(0), all_values[own], gradient.shape, check_invariants=False
        )
        return summed.coalesce()

    def _gather(self, values: Tensor) -> Tensor:
        """The tensors of one shape of all processes, one below the other [processes, ..]."""
        gathered = values.new_empty(self.size, *values.shape)
        dist.all_gather(list(gathered), values.contiguous())
        return gathered

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

    def all(self, holds: bool, device: torch.device) -> bool:
        """Whether something holds in all processes."""
        return bool(self.sum(torch.tensor(float(holds), device=device)) == self.size)

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
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _die_with_parent()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True):
        warnings.warn(
            "torchrun reuses its store after a restart, which can then wait half an hour for processes that are dead: "
            f"start it with {' '.join(map('='.join, OWN_STORE.items()))}",
            stacklevel=3,
        )
    if not launched():
        yield SINGLE_PROCESS
        return
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
    os.environ |= OWN_STORE
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
