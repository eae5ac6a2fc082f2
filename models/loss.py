"""The loss of HiNet's paper: binary cross entropy per (scenario, task), each row in its own scenario only."""

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_loss(logits: Tensor, labels: Tensor, scenario: Tensor, weights: Tensor) -> Tensor:
    """L = 1 / B * sum over rows b and tasks j of weights[scenario_b, j] * BCE(sigmoid(logits_bj), labels_bj).

    Logits and labels [B, T], scenarios [B], weights (lambda) [M, T] -> a scalar. Where a label is NaN (unobserved)
    the term is 0 and passes no gradient; the divisor stays B, so that a task with few labels does not count for
    more than its rows. A row has the labels of its own scenario only: it adds nothing to any other's cell.
    """
    observed = ~labels.isnan()
    weight = F.embedding(scenario, weights) * observed  # [B, T]
    total = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(labels), weight, reduction="sum")
    return total / len(logits)
