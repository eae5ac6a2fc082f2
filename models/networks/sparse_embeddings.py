"""Embeddings whose training step costs by the ids of a batch, not by the rows of the tables.

Adam over an embedding table updates every row in every step, and so does a moving average of it; with 10 million ids
nothing else counts. Here a row is updated only by batches that contain its id: its optimizer state (torch's
SparseAdam), its decay, and its average, which catches up in closed form when the id occurs again. That is another
optimizer than Adam over all rows, not a faster way to the same numbers: a rare row decays by its occurrences instead of
by the steps.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.networks.feature_embedding import FeatureEmbedding
from models.networks.neighbours import Neighbours


def embeddings_of(network: nn.Module) -> list[nn.Parameter]:
    """The embedding parameters of a network, those of its neighbours last."""
    embeddings = [module.weight for module in network.modules() if isinstance(module, FeatureEmbedding)]
    neighbours = (module for module in network.modules() if isinstance(module, Neighbours))
    return embeddings + [weight for module in neighbours for weight in (module.of_items, module.of_users)]


def use_sparse_gradients(network: nn.Module) -> None:
    """Make the network's embeddings have sparse gradients: the rows of the ids in a batch.

    Raises ValueError where neighbours are on: their sums read most rows in every step.
    """
    for module in network.modules():
        if isinstance(module, Neighbours):
            raise ValueError("sparse_embeddings and neighbours exclude each other: switch sparse_embeddings off")
        if isinstance(module, FeatureEmbedding):
            module.sparse = True


def add_decay(embedding: nn.Parameter, decay: float) -> None:
    """Add the L2 decay of the rows in the sparse gradient to it; afterwards the gradient is coalesced."""
    gradient = _gradient(embedding).coalesce()
    values = gradient.values()
    if decay:
        values = values.add(embedding.detach().index_select(0, gradient.indices()[0]), alpha=decay)
    embedding.grad = torch.sparse_coo_tensor(
        gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
    )


class SparseAverage:
    """The moving average of an embedding, row by row: mean_t = sum_s d^(t - s) w_s / sum_s d^(t - s).

    While a row stays at w from step r to step t its mean moves to
    w + (mean_r - w) * d^(t - r) * (1 - d^r) / (1 - d^t), the product of the factors of the steps in between.
    """

    def __init__(self, embedding: nn.Parameter, mean: nn.Parameter, decay: float) -> None:
        self.embedding, self.mean, self.decay = embedding, mean, decay
        # the step up to which each row's mean is known
        self.steps = torch.zeros(len(embedding), dtype=torch.int64, device=embedding.device)

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None, step: int) -> None:
        """Bring the means of these rows (None: all) to `step`; their weights have not changed since their own step."""
        if step == 0:
            return
        if rows is None:
            self.mean.copy_(self._caught_up(self.embedding, self.mean, self.steps, step))
            self.steps.fill_(step)
            return
        weights, means, steps = (t.index_select(0, rows) for t in (self.embedding, self.mean, self.steps))
        self.mean.index_copy_(0, rows, self._caught_up(weights, means, steps, step))
        self.steps.index_fill_(0, rows, step)

    @torch.no_grad()
    def update(self, rows: Tensor, step: int, weight: float) -> None:
        """Move the means of these rows, which are those of the step before, by `weight` towards the new weights."""
        means, weights = self.mean.index_select(0, rows), self.embedding.index_select(0, rows)
        self.mean.index_copy_(0, rows, means.lerp_(weights, weight))
        self.steps.index_fill_(0, rows, step)

    def _caught_up(self, weights: Tensor, means: Tensor, steps: Tensor, step: int) -> Tensor:
        d, row_step = self.decay, steps.double().unsqueeze(1)
        factor = d ** (step - row_step) * (1 - d**row_step) / (1 - d**step)  # 0 for a row without an update
        return weights + (means - weights) * factor.to(weights.dtype)


def updated_rows(embedding: nn.Parameter) -> Tensor:
    """The row indices of a coalesced sparse gradient."""
    return _gradient(embedding).indices()[0]


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, norm: Tensor | None = None) -> None:
    """Clip all gradients together to the norm `limit`, as torch's clip_grad_norm_, which refuses sparse ones.

    `norm` is that of all of them, where other processes have some.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if norm is None:
        dense = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
        norm = nn.utils.get_total_norm(dense)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)


def _gradient(embedding: nn.Parameter) -> Tensor:
    if embedding.grad is None:
        raise ValueError("an embedding has no gradient: call backward before its step")
    return embedding.grad
