"""A training step on a GPU without its kernel launches: captured once as a CUDA graph, then replayed.

A step of these networks is some hundred small kernels; their launches from Python take longer than their work. A graph
replays them with one launch, on buffers with fixed addresses, into which each batch is copied. Only full batches are
replayed: the last, smaller one of an epoch runs eagerly.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.training.batches import TensorBatch

WARMUP_STEPS = 3  # eager steps before the capture: libraries select their kernels, the optimizer creates its state

Step = Callable[[TensorBatch, float], Tensor]  # a share of a batch, and how much of the batch it is


class CapturedStep:
    """`step` for shares of `rows` rows that are this part of a batch, captured after WARMUP_STEPS of them.

    Other shares go to `step` itself. The capture does not run the step; its share is the first that is replayed. The
    result of `step` has to stay on the device, and nothing in it may synchronise with the host (no .item(), no Python
    number that changes between steps).
    """

    def __init__(
        self, step: Step, rows: int, share: float = 1.0, *, make_replay: "Callable[[], Replay] | None" = None
    ) -> None:
        self.step, self.full, self.make_replay = step, (rows, share), make_replay or CudaReplay
        self.steps = 0
        self.buffers: TensorBatch | None = None
        self.replay: Replay | None = None

    def __call__(self, batch: TensorBatch, share: float = 1.0) -> Tensor:
        """The loss of one step on this share of a batch."""
        if (len(batch.scenario), share) != self.full:
            return self.step(batch, share)
        if self.buffers is None:
            self.buffers = TensorBatch(*(torch.empty_like(column) for column in batch))
        for buffer, column in zip(self.buffers, batch, strict=True):
            buffer.copy_(column)
        self.steps += 1
        if self.replay is None:
            self.replay = self.make_replay()
        if self.steps <= WARMUP_STEPS:
            return self.replay.warm_up(self.step, self.buffers, share)
        return self.replay(self.step, self.buffers, share)


class Replay:
    """A step on fixed buffers, run eagerly: the reference for a captured one."""

    def warm_up(self, step: Step, buffers: TensorBatch, share: float) -> Tensor:
        """One step before the capture."""
        return step(buffers, share)

    def __call__(self, step: Step, buffers: TensorBatch, share: float) -> Tensor:
        """One step."""
        return step(buffers, share)


class CudaReplay(Replay):
    """A CUDA graph of the step (torch.cuda.graph)."""

    def __init__(self) -> None:
        self.graph: torch.cuda.CUDAGraph | None = None
        self.loss: Tensor | None = None
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, step: Step, buffers: TensorBatch, share: float) -> Tensor:
        """One step on a side stream, as torch.cuda.graph requires before a capture."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            loss = step(buffers, share)
        torch.cuda.current_stream().wait_stream(self.stream)
        return loss

    def __call__(self, step: Step, buffers: TensorBatch, share: float) -> Tensor:
        """Capture the step the first time; replay it."""
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = step(buffers, share)
        self.graph.replay()
        if self.loss is None:
            raise RuntimeError("the captured step returned no loss")
        return self.loss.clone()
