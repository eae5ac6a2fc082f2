"""The loss of HiNet's paper: cross entropy per (scenario, task), each row in its own scenario only.

Rows may have weights. Then the mean over the rows is a weighted one, sum of w_b x loss_b / sum of w_b, as in
scikit-learn's `sample_weight`: only the proportions of the weights of a batch count, and a row of weight 2 is two rows.

A regression task has the squared error of its label in standard deviations, halved, as the negative logarithm of a
normal density has it (A. Kendall, Y. Gal and R. Cipolla, CVPR 2018). Its minimum is the conditional mean, so that what
is predicted is an expected value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

Target = tuple[float, float, float | None]  # mean, deviation and floor: features/encoding/target_scale.py


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """How the terms of the loss count and what they are of.

    Args:
        cell_weights: [M, T], the lambdas; None: 1.
        targets: the scales of the regression tasks, by name.
    """

    cell_weights: Tensor | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)

    def weights_of(self, scenarios: int, tasks: int) -> Tensor:
        """The lambdas [M, T]."""
        return torch.ones(scenarios, tasks) if self.cell_weights is None else self.cell_weights


def weighted_loss(
    logits: Tensor,
    labels: Tensor,
    scenario: Tensor,
    weights: Tensor,
    outputs: Sequence[int] | None = None,
    *,
    targets: Sequence[Target | None] | None = None,
    row_weights: Tensor | None = None,
) -> Tensor:
    """L = 1 / B * sum over rows b and tasks j of weights[scenario_b, j] * cross entropy of the logits and label of j.

    Logits [B, O], labels [B, T], scenarios [B], weights (lambda) [M, T] -> a scalar. `outputs` are the numbers of
    logits of the tasks, default one each. The term of a row is multiplied by its `row_weights` [B, 1] of mean 1 (see
    `relative`), if there are any [B, 0]. One logit has the binary cross entropy of its sigmoid; several have the
    cross entropy of their softmax, with the index of the class as label. `targets` are the scales of regression tasks,
    None for the others.

    A choice is learned row by row, as binary: a shuffled batch does not hold whole sets. Where candidates are drawn
    alike given the context, p(chosen | candidate) ranks them as the softmax over the set would. It is also a
    probability without the set, which the service needs.

    Where a label is NaN (unobserved) the term is 0 and passes no gradient; the divisor stays B, so that a task with few
    labels does not count for more than its rows. A row has the labels of one scenario: it adds nothing to the cells of
    others.
    """
    observed = ~labels.isnan()
    weight = F.embedding(scenario, weights) * observed  # [B, T]
    if row_weights is not None and row_weights.shape[1]:
        weight = weight * row_weights  # [B, T]
    known = torch.nan_to_num(labels)
    if (outputs is None or max(outputs) == 1) and targets is None:
        total = F.binary_cross_entropy_with_logits(logits, known, weight, reduction="sum")
    else:
        tasks = labels.shape[1]
        split = torch.split(logits, list(outputs or [1] * tasks), dim=1)
        columns = zip(split, known.unbind(1), weight.unbind(1), targets or [None] * tasks, strict=True)
        total = torch.stack([_task_loss(*column) for column in columns]).sum()
    return total / len(logits)


def relative(row_weights: Tensor) -> Tensor:
    """Weights [B, 1] divided by their mean, all 0 where they are; no weights [B, 0] stay none.

    Weights of 1 stay exactly 1: both numbers of the division are B, and no reciprocal is multiplied.
    """
    total = row_weights.sum()
    count = torch.full_like(total, len(row_weights))
    return row_weights * torch.where(total > 0, count / total, total)


def _task_loss(logits: Tensor, labels: Tensor, weight: Tensor, target: Target | None) -> Tensor:
    """The weighted sum over the rows of one task: logits [B, C], labels and weight [B]."""
    if target is not None:
        return _half_squared_error(logits.squeeze(1), labels, target) @ weight
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels, weight, reduction="sum")
    return F.cross_entropy(logits, labels.long(), reduction="none") @ weight


def _half_squared_error(outputs: Tensor, labels: Tensor, target: Target) -> Tensor:
    """Half the squared error of each row, in standard deviations [B]; TargetScale.expected has the same formula."""
    mean, deviation, floor = target
    if floor is None:
        return (outputs - (labels - mean) / deviation).square() / 2
    expected = floor + F.softplus(outputs) * ((mean - floor) / math.log(2))
    return ((expected - labels) / deviation).square() / 2
