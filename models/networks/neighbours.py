"""The training rows of a row's user and item: which items a user had and with which outcome, which users an item had.

    user u:  v_u = k / sqrt(n_u) * sum of Q[item, outcome] over the training rows of u
    item i:  w_i = k / sqrt(n_i) * sum of P[user, outcome] over the training rows of i

SVD++ has the first of the two (Y. Koren, Factorization Meets the Neighborhood, KDD 2008); with a perceptron on top they
are what an autoencoder of ratings reads (S. Sedhain et al., AutoRec, WWW 2015), by user and by item.

A row must not read its own label there. In training all rows of the batch are left out of all sums, and so is a random
part of the others, drawn anew in every step (k = 1 / share of the rows that stay). Without the second part an embedding
that knows the whole sum of a user could infer the omitted row from the difference. In scoring every row counts (k = 1).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_DEVIATION = 0.05  # as of every embedding here
KEPT = 0.7  # share of the other rows that a training step uses


class Neighbours(nn.Module):
    """Two vectors of `width` for a row's user and item, from the rows given to `set_training_rows`.

    Ids run from 0, which is unknown, to `users` and `items` (exclusive); a label is one of `outcomes`. An id without
    training rows has zeros. In training so has a row that is not a training row (one of its ids is hidden): which row
    to leave out for it is unknown.

    >>> neighbours = Neighbours(users=3, items=5, outcomes=2, width=4)
    >>> neighbours.set_training_rows(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 1]), torch.tensor([0, 1, 1]))
    >>> neighbours(torch.tensor([1, 0]), torch.tensor([4, 1])).shape
    torch.Size([2, 8])
    """

    pairs: Tensor
    by_user: Tensor
    by_item: Tensor
    rated_of_user: Tensor
    item_of_rater: Tensor
    rater_of_item: Tensor
    user_of_rated: Tensor
    user_starts: Tensor
    item_starts: Tensor
    rater_starts: Tensor
    rated_starts: Tensor

    def __init__(self, *, users: int, items: int, outcomes: int, width: int, kept: float = KEPT) -> None:
        super().__init__()
        if not 1 / 256 <= kept <= 1:
            raise ValueError(f"kept is the share of the rows that a step uses: 1 / 256 to 1, but is {kept}")
        self.users, self.items, self.outcomes, self.kept, self.width = users, items, outcomes, kept, 2 * width
        self.of_items = nn.Parameter(torch.randn(items * outcomes, width) * INITIAL_DEVIATION)  # Q
        self.of_users = nn.Parameter(torch.randn(users * outcomes, width) * INITIAL_DEVIATION)  # P
        no_rows = torch.empty(0, dtype=torch.int64)
        self.set_training_rows(no_rows, no_rows, no_rows)

    def set_training_rows(self, user: Tensor, item: Tensor, outcome: Tensor) -> None:
        """Set the training rows: user, item and outcome of each, [N]."""
        pairs, order = (user.long() * self.items + item).sort()
        user, item, outcome = (column.long().index_select(0, order) for column in (user, item, outcome))
        rated, rater = item * self.outcomes + outcome, user * self.outcomes + outcome
        by_user, by_item = rater.argsort(stable=True), rated.argsort(stable=True)  # an order by (user, outcome), too
        buffers = {
            "pairs": pairs,
            "by_user": by_user,
            "by_item": by_item,
            "rated_of_user": rated[by_user].int(),
            "user_starts": _starts(user, self.users),
            "item_of_rater": item[by_user].int(),
            "rater_starts": _starts(rater, self.users * self.outcomes),
            "rater_of_item": rater[by_item].int(),
            "item_starts": _starts(item, self.items),
            "user_of_rated": user[by_item].int(),
            "rated_starts": _starts(rated, self.items * self.outcomes),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Users and items of the rows, each [B] -> [B, 2 * width]: v of the user, w of the item."""
        if not len(self.pairs):
            raise ValueError("neighbours have no rows yet: call set_training_rows first")
        if not self.training:
            return self._select(user, item, *self.sums(self.of_items.new_ones(len(self.pairs)), 1.0))
        pair = user.long() * self.items + item  # [B]
        first, last = torch.searchsorted(self.pairs, pair), torch.searchsorted(self.pairs, pair, right=True)
        weights = self._sample()  # [N]
        weights[_ranges(first, last)] = 0.0
        known = (last > first).unsqueeze(1)  # [B, 1]
        return self._select(user, item, *self.sums(weights, self.kept)) * known

    def sums(self, weights: Tensor, kept: float) -> tuple[Tensor, Tensor]:
        """Sums v [users, width] and w [items, width] of the rows by weights [N], of which a share is `kept`."""
        by_user, by_item = weights.index_select(0, self.by_user), weights.index_select(0, self.by_item)
        rated = SparseMatrix(self.rated_of_user, self.user_starts, by_user)
        rater = SparseMatrix(self.rater_of_item, self.item_starts, by_item)
        rated_transposed = SparseMatrix(self.user_of_rated, self.rated_starts, by_item)
        rater_transposed = SparseMatrix(self.item_of_rater, self.rater_starts, by_user)
        user_sums = _product(self.of_items, rated, rated_transposed)  # [users, width]
        item_sums = _product(self.of_users, rater, rater_transposed)  # [items, width]
        return user_sums * _scale(self.user_starts, kept), item_sums * _scale(self.item_starts, kept)

    def _select(self, user: Tensor, item: Tensor, user_sums: Tensor, item_sums: Tensor) -> Tensor:
        return torch.cat([F.embedding(user, user_sums), F.embedding(item, item_sums)], dim=1)  # [B, 2 * width]

    def _sample(self) -> Tensor:
        """Weight 1 for each row that this step uses, 0 for the others: [N]. A random byte each, drawn eight at once."""
        rows = len(self.pairs)
        words = torch.empty(rows // 8 + 1, dtype=torch.int64, device=self.pairs.device).random_(-(2**63), None)
        return (words.view(torch.uint8)[:rows] <= round(256 * self.kept) - 1).to(self.of_items.dtype)


class SparseMatrix:
    """A sparse matrix: the columns of all its entries, the start of each row among them, their weights."""

    def __init__(self, columns: Tensor, starts: Tensor, weights: Tensor) -> None:
        self.columns, self.starts, self.weights = columns, starts, weights

    def times(self, dense: Tensor) -> Tensor:
        """The matrix times a dense one [columns, width] -> [rows, width]."""
        return F.embedding_bag(
            self.columns, dense, self.starts, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )


def _product(dense: Tensor, matrix: SparseMatrix, transposed: SparseMatrix) -> Tensor:
    product: Tensor = _SparseProduct.apply(dense, matrix, transposed)  # type: ignore[no-untyped-call]
    return product


class _SparseProduct(torch.autograd.Function):
    """Sparse matrix times dense matrix; the gradient uses the transposed matrix: no sort, no scatter."""

    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: SparseMatrix, transposed: SparseMatrix) -> Tensor:
        ctx.transposed = transposed
        return matrix.times(dense)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed.times(gradient.contiguous()), None, None


def _starts(row: Tensor, rows: int) -> Tensor:
    """The start of each row's entries once they are sorted, and the end: [rows + 1]. `row` is that of each entry."""
    counts = torch.bincount(row, minlength=rows)
    return F.pad(counts.cumsum(0), (1, 0)).int()


def _scale(starts: Tensor, kept: float) -> Tensor:
    counts = starts.diff().clamp(min=1).unsqueeze(1)  # [rows, 1]
    return counts.rsqrt() / kept


def _ranges(first: Tensor, last: Tensor) -> Tensor:
    """All numbers from each `first` to before its `last`, concatenated."""
    lengths = last - first
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=first.device) + (first - before).repeat_interleave(lengths)
