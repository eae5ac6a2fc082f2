"""The training loop as it is, in one variant: samples/s, and kernels of a step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.clock import seconds_per_call
from benchmarks.gpu.sizes import Size, Variant
from benchmarks.training.workload import Workload
from common.errors import TrainingError
from models.training.cuda_graph import WARMUP_STEPS


def steps(size: Size, variant: Variant, rows: int, device: torch.device, seconds: float) -> dict[str, Any]:
    """Samples/s with loading, masking, optimizer and average, and the kernels that a step runs on a GPU.

    Raises TrainingError where the loss is not finite: the speed of a broken step is of no use.
    """
    with variant.products():
        load = Workload.of(size.shape, rows, device=device.type, batch_size=size.batch_size, **variant.recipe)
        if variant.compiled:
            load.loop.state.network.compile(dynamic=False)
        batches = load.batches()
        load.loop.state.network.train()

        def step() -> Tensor:
            return load.loop.run_step(next(batches))

        for _ in range(WARMUP_STEPS + 2):  # the last but one is captured
            step()
        spent = seconds_per_call(step, device, seconds)
        loss = float(step())
        if not torch.tensor(loss).isfinite():
            raise TrainingError(f"{size.name}, {variant.name}: the loss is {loss}: expected a finite number")
        kernels = kernels_of(step) if device.type == "cuda" else None
    return {"samples_per_second": round(size.batch_size / spent), "kernels": kernels, "loss": round(loss, 4)}


def kernels_of(step: Callable[[], Any]) -> int | None:
    """The kernels of one step on the GPU, replayed ones included, copies left out; None if the profiler sees none."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        step()
        torch.cuda.synchronize()
    on_gpu = [event.name for event in trace.events() or [] if event.device_type.name == "CUDA"]
    return len([name for name in on_gpu if not name.startswith(("Memcpy", "Memset"))]) or None
