"""A step on a GPU without its launches: recorded once as a CUDA graph, then replayed.

A step of these networks is some hundred small kernels; started one by one from Python they cost more than they
compute. A graph replays them with one launch, on buffers that stay where they are, so each batch is copied into those.
Only whole batches are replayed: the last, smaller one of an epoch runs as always.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from models.training.batches import Part

WARM_STEPS = 3  # run as always before the recording: libraries choose their kernels, the optimizer makes its moments


class CapturedStep:
    """`step` for parts of `rows` rows, recorded after WARM_STEPS of them; other parts go to `step` itself.

    The recording does not run the step; the part at hand is its first replay. What `step` returns has to stay on the
    device, and nothing in it may ask the host (no .item(), no Python number that changes from step to step).
    """

    def __init__(self, step: Callable[[Part], Tensor], rows: int, record: "Callable[[], Replay] | None" = None) -> None:
        self.step, self.rows, self.record = step, rows, record or CudaReplay
        self.taken = 0
        self.buffers: Part | None = None
        self.replay: Replay | None = None

    def __call__(self, part: Part) -> Tensor:
        """The loss of one step on these rows."""
        if len(part.scenario) != self.rows:
            return self.step(part)
        if self.buffers is None:
            self.buffers = Part(*(torch.empty_like(column) for column in part))
        for buffer, column in zip(self.buffers, part, strict=True):
            buffer.copy_(column)
        self.taken += 1
        if self.replay is None:
            self.replay = self.record()
        if self.taken <= WARM_STEPS:
            return self.replay.warm(self.step, self.buffers)
        return self.replay(self.step, self.buffers)


class Replay:
    """How a step on fixed buffers is done again: here by calling it, which is what a recording has to equal."""

    def warm(self, step: Callable[[Part], Tensor], buffers: Part) -> Tensor:
        """One step before the recording."""
        return step(buffers)

    def __call__(self, step: Callable[[Part], Tensor], buffers: Part) -> Tensor:
        """One step."""
        return step(buffers)


class CudaReplay(Replay):
    """A CUDA graph of the step (torch.cuda.graph)."""

    def __init__(self) -> None:
        self.graph: torch.cuda.CUDAGraph | None = None
        self.loss: Tensor | None = None
        self.stream = torch.cuda.Stream()

    def warm(self, step: Callable[[Part], Tensor], buffers: Part) -> Tensor:
        """One step on a stream beside the current one, as recordings ask for."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            loss = step(buffers)
        torch.cuda.current_stream().wait_stream(self.stream)
        return loss

    def __call__(self, step: Callable[[Part], Tensor], buffers: Part) -> Tensor:
        """Record the step if it is not yet, then replay it."""
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.loss = step(buffers)
        self.graph.replay()
        if self.loss is None:
            raise RuntimeError("a recorded step has no loss")
        return self.loss.clone()
