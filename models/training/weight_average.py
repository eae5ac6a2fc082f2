"""The moving average of a network's weights, without bias towards the first steps.

torch's AveragedModel starts its average at the weights of the first step and reads its counter on the host. Here the
first weights have no extra weight, sparse embeddings are averaged row by row, and the update can be captured as a CUDA
graph.
"""

import copy

import torch
from torch import Tensor, nn

from models.networks.sparse_embeddings import SparseAverage, embeddings_of, updated_rows


class WeightAverage:
    """A copy of a network whose weights are the moving average of the network's weights, one update per step.

    average_t = sum_s decay^(t - s) * weights_s / sum_s decay^(t - s), s = 1..t: the initial weights do not count. With
    `sparse` embeddings their average is complete only after `catch_up`.
    """

    def __init__(self, network: nn.Module, decay: float, *, sparse: bool = False, captured: bool = False) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0
        pairs = list(zip(embeddings_of(network), embeddings_of(self.network), strict=True)) if sparse else []
        self.embeddings = [SparseAverage(embedding, mean, decay) for embedding, mean in pairs]
        by_row = {id(weight) for pair in pairs for weight in pair}
        self._weights: list[Tensor] = [p for p in network.parameters() if id(p) not in by_row]
        self._means: list[Tensor] = [p for p in self.network.parameters() if id(p) not in by_row]
        self.count = torch.zeros((), device=self._means[0].device) if captured else None

    @torch.no_grad()
    def update(self) -> None:
        """Add the network's current weights to the average; of sparse embeddings the rows of the gradient."""
        self.steps += 1
        weight = (1 - self.decay) / (1 - self.decay**self.steps)
        if self.count is None:
            torch._foreach_lerp_(self._means, self._weights, weight)
        else:
            self._update_on_device(self.count)
        for embedding in self.embeddings:
            embedding.update(updated_rows(embedding.embedding), self.steps, weight)

    def _update_on_device(self, count: Tensor) -> None:
        """The same with the steps counted on the device: a captured step cannot read a Python number."""
        count += 1
        differences = torch._foreach_sub(self._weights, self._means)
        torch._foreach_mul_(differences, (1 - self.decay) / (1 - self.decay**count))
        torch._foreach_add_(self._means, differences)

    def before_step(self) -> None:
        """Bring the means of the embedding rows that the next step updates to the current step."""
        for embedding in self.embeddings:
            embedding.catch_up(updated_rows(embedding.embedding), self.steps)

    def catch_up(self) -> None:
        """Bring the means of all embedding rows to the current step."""
        for embedding in self.embeddings:
            embedding.catch_up(None, self.steps)
