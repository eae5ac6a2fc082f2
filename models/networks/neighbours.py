"""What the ids of a row are known for among the training rows: which items a user met and how, which users an item met.

    user u:  v_u = k / sqrt(n_u) * sum of Q[item, outcome] over the training rows of u
    item i:  w_i = k / sqrt(n_i) * sum of P[user, outcome] over the training rows of i

SVD++ has the first of the two (Y. Koren, Factorization Meets the Neighborhood, KDD 2008); with a perceptron on top they
are what an autoencoder of ratings reads (S. Sedhain et al., AutoRec, WWW 2015), by user and by item.

A row must not find its own label there. While the network is trained, all rows of the batch are left out of all sums,
and a random share of the others, drawn anew at every step (k = 1 / share that stays): without the second a table that
knows the whole sum of a user would tell by the difference what was left out. Afterwards every row counts (k = 1).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEVIATION = 0.05  # of the initial tables, as of any embedding here
KEPT = 0.7  # share of the other rows that a step sees


class Neighbours(nn.Module):
    """Two vectors of `width` for a row's user and item, from the training rows that `remember` was told.

    Ids run from 0, which is unknown, to `users` and `items` (exclusive); a label is one of `outcomes`. An id without
    training rows has zeros. So has, in training, a row that is not among them as it stands (one of its ids is hidden):
    what to leave out for it cannot be known.

    >>> neighbours = Neighbours(users=3, items=5, outcomes=2, width=4)
    >>> neighbours.remember(torch.tensor([1, 1, 2]), torch.tensor([1, 2, 1]), torch.tensor([0, 1, 1]))
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
            raise ValueError(f"kept is the share of the rows that a step sees: 1 / 256 to 1, but is {kept}")
        self.users, self.items, self.outcomes, self.kept, self.width = users, items, outcomes, kept, 2 * width
        self.of_items = nn.Parameter(torch.randn(items * outcomes, width) * DEVIATION)  # Q
        self.of_users = nn.Parameter(torch.randn(users * outcomes, width) * DEVIATION)  # P
        nothing = torch.empty(0, dtype=torch.int64)
        self.remember(nothing, nothing, nothing)

    def remember(self, user: Tensor, item: Tensor, outcome: Tensor) -> None:
        """Take these rows, each [N], for the training rows."""
        pairs, order = (user.long() * self.items + item).sort()
        user, item, outcome = (of.long().index_select(0, order) for of in (user, item, outcome))
        rated, rater = item * self.outcomes + outcome, user * self.outcomes + outcome
        by_user, by_item = rater.argsort(stable=True), rated.argsort(stable=True)  # an order by (user, outcome), too
        found = {
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
        for name, value in found.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Users and items of the rows, each [B] -> [B, 2 * width]: v of the user, w of the item."""
        if not len(self.pairs):
            raise ValueError("neighbours know no rows yet: call remember with the training rows first")
        if not self.training:
            return self._of(user, item, *self.sums(self.of_items.new_ones(len(self.pairs)), 1.0))
        pair = user.long() * self.items + item
        first, last = torch.searchsorted(self.pairs, pair), torch.searchsorted(self.pairs, pair, right=True)
        weights = self._drawn()
        weights[_ranges(first, last)] = 0.0
        known = (last > first).unsqueeze(1)  # [B, 1]
        return self._of(user, item, *self.sums(weights, self.kept)) * known

    def sums(self, weights: Tensor, kept: float) -> tuple[Tensor, Tensor]:
        """Sums v [users, width] and w [items, width] of rows with these weights [N], of which a share was `kept`."""
        by_user, by_item = weights.index_select(0, self.by_user), weights.index_select(0, self.by_item)
        rated = Bag(self.rated_of_user, self.user_starts, by_user)
        rater = Bag(self.rater_of_item, self.item_starts, by_item)
        back_to_rated = Bag(self.user_of_rated, self.rated_starts, by_item)
        back_to_rater = Bag(self.item_of_rater, self.rater_starts, by_user)
        of_user: Tensor = _Sums.apply(self.of_items, rated, back_to_rated)  # [users, width]
        of_item: Tensor = _Sums.apply(self.of_users, rater, back_to_rater)  # [items, width]
        return of_user * _scale(self.user_starts, kept), of_item * _scale(self.item_starts, kept)

    def _of(self, user: Tensor, item: Tensor, of_user: Tensor, of_item: Tensor) -> Tensor:
        return torch.cat([F.embedding(user, of_user), F.embedding(item, of_item)], dim=1)

    def _drawn(self) -> Tensor:
        """A weight of 1 for each row that this step sees, 0 for the others: [N]. A byte each, drawn eight at a time."""
        rows = len(self.pairs)
        words = torch.empty(rows // 8 + 1, dtype=torch.int64, device=self.pairs.device).random_(-(2**63), None)
        return (words.view(torch.uint8)[:rows] <= round(256 * self.kept) - 1).to(self.of_items.dtype)


class Bag:
    """Rows of a sparse matrix: the columns of all its entries, where each row's start, their weights."""

    def __init__(self, columns: Tensor, starts: Tensor, weights: Tensor) -> None:
        self.columns, self.starts, self.weights = columns, starts, weights

    def times(self, table: Tensor) -> Tensor:
        """The matrix times a table [columns, width] -> [rows, width]."""
        return F.embedding_bag(
            self.columns, table, self.starts, mode="sum", per_sample_weights=self.weights, include_last_offset=True
        )


class _Sums(torch.autograd.Function):
    """Sparse matrix times table, with the transposed matrix at hand for the gradient: no sort, no scatter."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, matrix: Bag, transposed: Bag) -> Tensor:
        ctx.transposed = transposed
        return matrix.times(table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.transposed.times(gradient.contiguous()), None, None


def _starts(sorted_or_not: Tensor, rows: int) -> Tensor:
    """Where the entries of each row start once they are in order, and the end: [rows + 1]."""
    counts = torch.bincount(sorted_or_not, minlength=rows)
    return F.pad(counts.cumsum(0), (1, 0)).int()


def _scale(starts: Tensor, kept: float) -> Tensor:
    counts = starts.diff().clamp(min=1).unsqueeze(1)  # [rows, 1]
    return counts.rsqrt() / kept


def _ranges(first: Tensor, last: Tensor) -> Tensor:
    """All numbers from each `first` to before its `last`, side by side."""
    lengths = last - first
    before = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum()), device=first.device) + (first - before).repeat_interleave(lengths)
