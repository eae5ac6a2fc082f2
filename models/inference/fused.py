"""HiNet's layers behind the first one for few rows: all experts of a kind in one product per layer.

What some hundred rows cost is less arithmetic than calls. So whatever depends on the weights alone is made once, and
lies as the products want it: weights turned, biases with an axis for the rows.

Letters as in models/inference/ranking.py; X experts of a stack.
"""

from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from models.networks.hinet import HiNet
from models.networks.layers import StackedExperts, StackedLinear, StackedNorm


class Layer(NamedTuple):
    """X linear layers: weight [X, inputs, outputs], bias [X, 1, outputs]; a ReLU behind, or what `norm` does."""

    weight: Tensor
    bias: Tensor
    norm: StackedNorm | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Rows of each layer [X, N, inputs] -> [X, N, outputs]."""
        y = torch.baddbmm(self.bias, x, self.weight)
        return y.relu_() if self.norm is None else self.norm(y)


class Together:
    """Everything above the first layer of the sub-experts of a trained network."""

    def __init__(self, network: HiNet, experts: StackedExperts, coefficients: Tensor) -> None:
        control, towers = network.control, network.towers
        self.coefficients, self.tasks, self.own = coefficients, control.tasks, control.task_experts
        (_, _, self.norm), *self.later = _layers(experts)
        self.gates = control.gates.logits.weight.detach().flatten(0, 1)  # [T * (P + Q), 3H]
        self.experts, self.read = _layers(control.experts), control.gates.logits.weight.shape[1]
        stack = [*_layers(towers.hidden), _layer(towers.logits)]
        runs = [slice(run * self.tasks, (run + 1) * self.tasks) for run in range(towers.scenarios)]
        self.towers = [[Layer(weight[own], bias[own]) for weight, bias, _ in stack] for own in runs]

    def logits(self, first: Tensor, weights: Tensor, scenario: int) -> Tensor:
        """What the first layer makes of rows [E, N, U] (overwritten), weights [E, N] -> logits [N, T * widest]."""
        experts = first.relu_() if self.norm is None else self.norm(first)
        for layer in self.later:
            experts = layer(experts)  # [E, N, H]
        mixed = self.coefficients[scenario] @ (experts * weights.unsqueeze(2)).flatten(1)  # [3, N * H]
        context = mixed.view(len(mixed), *experts.shape[1:]).transpose(0, 1).flatten(1)  # [N, 3H]
        *hidden, (weight, bias, _) = self.towers[scenario if len(self.towers) > 1 else 0]
        x = self._control(context)  # [T, N, h]
        for layer in hidden:
            x = layer(x)
        return torch.baddbmm(bias, x, weight).transpose(0, 1).flatten(1)

    def _control(self, context: Tensor) -> Tensor:
        """C [N, 3H] -> what each task reads [T, N, h]."""
        gates = (self.gates @ context.t()).view(self.tasks, self.read, len(context))
        weights = gates.softmax(dim=1).unsqueeze(3)  # [T, P + Q, N, 1]
        experts = context.expand(self.tasks * self.own + self.read - self.own, -1, -1)
        for layer in self.experts:
            experts = layer(experts)  # [T * P + Q, N, h]
        specific, shared = experts.tensor_split([self.tasks * self.own])
        specific = specific.view(self.tasks, self.own, *specific.shape[1:])
        of_own, of_all = weights.tensor_split([self.own], dim=1)  # [T, P, N, 1], [T, Q, N, 1]
        return (specific * of_own).sum(dim=1) + (shared * of_all).sum(dim=1)


def _layers(experts: StackedExperts) -> list[Layer]:
    linear = [_layer(layer) for layer in experts.layers if isinstance(layer, StackedLinear)]
    norms = [layer for layer in experts.layers if isinstance(layer, StackedNorm)]  # as many, or none
    return [Layer(weight, bias, norm) for (weight, bias, _), norm in zip_longest(linear, norms)]


def _layer(layer: StackedLinear) -> Layer:
    assert layer.bias is not None
    return Layer(layer.weight.detach().transpose(1, 2).contiguous(), layer.bias.detach().unsqueeze(1))
