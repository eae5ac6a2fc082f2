"""Embedding tables whose step costs by the ids of a batch, not by the rows of the table.

Adam over a table moves every row in every step, and so does a moving average of it; with 10 million ids that is all
that a step does. Here a row stands still between two batches that name it: its moments (torch's SparseAdam), its
decay, and its average, which is caught up in closed form when the row is named again. That is another optimizer than
Adam over all rows, not a faster way to the same numbers: a rare row decays by its sightings instead of by the clock.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.networks.layers import FeatureEmbedding
from models.networks.neighbours import Neighbours


def tables_of(network: nn.Module) -> list[nn.Parameter]:
    """The embedding tables of a network."""
    tables = [module.weight for module in network.modules() if isinstance(module, FeatureEmbedding)]
    of_neighbours = (module for module in network.modules() if isinstance(module, Neighbours))
    return tables + [table for module in of_neighbours for table in (module.of_items, module.of_users)]


def make_lazy(network: nn.Module) -> None:
    """Have the network's tables ask for sparse gradients: the rows that a batch names.

    Raises ValueError where neighbours are on: their sums name most rows in every step.
    """
    for module in network.modules():
        if isinstance(module, Neighbours):
            raise ValueError("lazy_tables and neighbours exclude each other: switch lazy_tables off")
        if isinstance(module, FeatureEmbedding):
            module.sparse = True


def decay(table: nn.Parameter, share: float) -> None:
    """Add the L2 decay of the named rows to the table's sparse gradient, which comes out coalesced."""
    gradient = _gradient(table).coalesce()
    values = gradient.values()
    if share:
        values = values.add(table.detach().index_select(0, gradient.indices()[0]), alpha=share)
    table.grad = torch.sparse_coo_tensor(
        gradient.indices(), values, gradient.shape, is_coalesced=True, check_invariants=False
    )


class LazyAverage:
    """The moving average of a table by rows: mean_t = sum_s d^(t - s) w_s / sum_s d^(t - s), as of every parameter.

    While a row stands still at w from step r to step t its mean moves to
    w + (mean_r - w) * d^(t - r) * (1 - d^r) / (1 - d^t), the product of the shares left over in between.
    """

    def __init__(self, table: nn.Parameter, mean: nn.Parameter, decay: float) -> None:
        self.table, self.mean, self.decay = table, mean, decay
        self.seen = torch.zeros(len(table), dtype=torch.int64, device=table.device)  # the step of each row's mean

    @torch.no_grad()
    def catch_up(self, rows: Tensor | None, step: int) -> None:
        """Bring the means of these rows (None: all) to `step`; the weights stood still since they were seen."""
        if step == 0:
            return
        if rows is None:
            self.mean.copy_(self._caught_up(self.table, self.mean, self.seen, step))
            self.seen.fill_(step)
            return
        weights, means, seen = (of.index_select(0, rows) for of in (self.table, self.mean, self.seen))
        self.mean.index_copy_(0, rows, self._caught_up(weights, means, seen, step))
        self.seen.index_fill_(0, rows, step)

    @torch.no_grad()
    def update(self, rows: Tensor, step: int, share: float) -> None:
        """Take in the new weights of these rows, whose means are those of the step before."""
        means, weights = self.mean.index_select(0, rows), self.table.index_select(0, rows)
        self.mean.index_copy_(0, rows, means.lerp_(weights, share))
        self.seen.index_fill_(0, rows, step)

    def _caught_up(self, weights: Tensor, means: Tensor, seen: Tensor, step: int) -> Tensor:
        d, of_row = self.decay, seen.double().unsqueeze(1)
        left = d ** (step - of_row) * (1 - d**of_row) / (1 - d**step)  # 0 for a row that was never seen
        return weights + (means - weights) * left.to(weights.dtype)


def named_rows(table: nn.Parameter) -> Tensor:
    """The rows of a coalesced sparse gradient."""
    return _gradient(table).indices()[0]


def clip(parameters: Iterable[nn.Parameter], limit: float) -> None:
    """Cut all gradients together to the norm `limit`, as torch's clip_grad_norm_, which refuses sparse ones."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    dense = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    share = (limit / (nn.utils.get_total_norm(dense) + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(share)


def _gradient(table: nn.Parameter) -> Tensor:
    if table.grad is None:
        raise ValueError("a table has no gradient: call backward before its step")
    return table.grad
