"""Networks that adapt themselves to the scenario, which HiNet has to beat: STAR and PEPNet, from the same blocks.

And ScenarioView, M3oE's view of a row by its scenario, which HiNet reads if it is told to.

Inputs and outputs are HiNet's; letters as in models/networks/layers.py, with M scenarios.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cpu_kernels import linear
from models.networks.layers import (
    FeatureEmbedding,
    Inputs,
    StackedExperts,
    StackedLinear,
    StackedLogits,
    outputs_of,
    own,
)

GATE_RANGE = 2.0  # of PEPNet's gates: 0 .. 2, so that 1, no change, is in the middle


class StarLinear(nn.Module):
    """A linear layer per scenario around a shared one: (W_s * W) x + b_s + b, weights multiplied one by one.

    The source does not say how both start: here W as nn.Linear and W_s at 1 (b_s at 0), so that all scenarios start
    as the shared layer.

    >>> layer = StarLinear(scenarios=3, inputs=4, outputs=2)
    >>> layer(torch.zeros(5, 4)).shape, layer(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 2]))
    """

    def __init__(self, *, scenarios: int, inputs: int, outputs: int, rectify: bool = False) -> None:
        super().__init__()
        self.rectify = rectify
        self.shared = StackedLinear(stack=1, inputs=inputs, outputs=outputs)
        self.weight = nn.Parameter(torch.ones(scenarios, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(scenarios, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, inputs] for all scenarios, or [M, B, inputs] of each -> [M, B, outputs]."""
        assert self.shared.bias is not None
        weight, bias = self.weight * self.shared.weight, self.bias + self.shared.bias
        return linear(x, weight, bias, rectify=self.rectify)  # [M, B, outputs]


class ScenarioView(nn.Module):
    """M3oE's view of a row: MLP(Star_s(x)) + MLP'(x), made by the row's own scenario and beside it by what all share.

    Z. Zhang et al., SIGIR 2024, arXiv 2404.18465. Star_s is a StarLinear without a ReLU; the perceptrons are normalized
    before theirs (both after the authors' code). `units`: width of Star_s, then of each layer of MLP; MLP' has one
    layer, as wide as the last. Raises ValueError if there are fewer than two.

    >>> view = ScenarioView(scenarios=3, inputs=4, units=(8, 6))
    >>> view(torch.zeros(5, 4), torch.zeros(5).int()).shape
    torch.Size([5, 6])
    """

    def __init__(self, *, scenarios: int, inputs: int, units: Sequence[int]) -> None:
        super().__init__()
        if len(units) < 2:
            raise ValueError(f"a view has two widths or more, of the scenario's layer and of what follows, not {units}")
        self.star = StarLinear(scenarios=scenarios, inputs=inputs, outputs=units[0])
        self.after_star = StackedExperts(experts=1, inputs=units[0], units=units[1:], normalize=True)
        self.beside_star = StackedExperts(experts=1, inputs=inputs, units=units[-1:], normalize=True)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Rows [B, inputs] and their scenarios [B] -> [B, units[-1]]."""
        star = own(self.star(x), scenario)  # [B, units[0]]
        return (self.after_star(star) + self.beside_star(x)).squeeze(0)  # [B, units[-1]]


class PartitionedNorm(nn.Module):
    """Batch normalization by scenario: g * g_s * (x - mean_s) / sqrt(variance_s + epsilon) + h + h_s.

    Mean and variance are those of the scenario's rows in the batch; each scenario keeps moving ones to score with: the
    mean over its batches, from the 1 / `momentum`th on a moving one. The paper draws batches of one scenario and is
    silent on epsilon: 1e-3 here, for where a feature is constant in a scenario, what it moved since the moving mean was
    taken is magnified by 1 / sqrt(epsilon).

    >>> PartitionedNorm(scenarios=3, width=4)(torch.ones(5, 4), torch.zeros(5).int()).shape
    torch.Size([5, 4])
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, *, scenarios: int, width: int, momentum: float = 0.01, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.momentum, self.epsilon = momentum, epsilon
        self.shared_scale, self.shared_shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(scenarios, width))
        self.shift = nn.Parameter(torch.zeros(scenarios, width))
        self.register_buffer("mean", torch.zeros(scenarios, width))
        self.register_buffer("variance", torch.ones(scenarios, width))
        self.register_buffer("batches", torch.zeros(scenarios, 1))

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Rows [B, D] and their scenarios [B] -> [B, D]."""
        mean, variance = self._of_batch(x, scenario) if self.training else (self.mean, self.variance)  # [M, D]
        scale = self.shared_scale * self.scale * (variance + self.epsilon).rsqrt()  # [M, D]
        shift = self.shared_shift + self.shift - scale * mean
        return x * F.embedding(scenario, scale) + F.embedding(scenario, shift)  # [B, D]

    def _of_batch(self, x: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(self.mean), device=x.device).unsqueeze(1) == scenario  # [M, B]
        counts = rows.sum(dim=1, keepdim=True)  # [M, 1]
        share = rows.to(x.dtype) / counts.clamp(min=1)  # [M, B]
        with torch.autocast(x.device.type, enabled=False):  # statistics at full precision
            mean = share @ x
            variance = share @ (x - F.embedding(scenario, mean)).square()
        self._follow(mean.detach(), variance.detach(), counts > 0)
        return mean, variance

    def _follow(self, mean: Tensor, variance: Tensor, present: Tensor) -> None:
        self.batches += present
        pace = present / self.batches.clamp(min=1, max=1 / self.momentum)  # [M, 1]
        self.mean += pace * (mean - self.mean)
        self.variance += pace * (variance - self.variance)


class STAR(nn.Module):
    """Star topology adaptive recommender (X. Sheng et al., CIKM 2021, arXiv 2101.11427).

    y_s = Star_s(Norm_s(x)) + Auxiliary(x, s). Star_s is a perceptron of StarLinear layers, Norm_s a PartitionedNorm
    (left out without `partitioned_norm`). The auxiliary network is a small perceptron that reads x and an embedding of
    the scenario, so that the scenario reaches the logit on a short way. The paper has one task: here both have an
    output per task (or class). A row trains no other scenario's weights.

    >>> network = STAR(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                scenarios=4, tasks=2, embedding_width=8, units=(16, 8), auxiliary_units=(8,), scenario_width=4,
    ...                partitioned_norm=True)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        units: Sequence[int],
        auxiliary_units: Sequence[int],
        scenario_width: int,
        partitioned_norm: bool,
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        width, outputs = self.embedding.width, sum(outputs_of(tasks, task_outputs))
        self.norm = PartitionedNorm(scenarios=scenarios, width=width) if partitioned_norm else None
        self.star = nn.Sequential(
            *(StarLinear(scenarios=scenarios, inputs=i, outputs=o, rectify=True) for i, o in pairwise([width, *units])),
            StarLinear(scenarios=scenarios, inputs=units[-1], outputs=outputs),
        )
        self.scenario = nn.Embedding(scenarios, scenario_width)
        self.auxiliary = nn.Sequential(
            StackedExperts(experts=1, inputs=width + scenario_width, units=auxiliary_units),
            StackedLinear(stack=1, inputs=auxiliary_units[-1], outputs=outputs),
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        normal = x if self.norm is None else self.norm(x, scenario)  # [B, D]
        auxiliary = self.auxiliary(torch.cat([x, self.scenario(scenario)], dim=1)).squeeze(0)  # [B, O]
        return own(self.star(normal), scenario) + auxiliary  # [B, O]


class GateUnit(nn.Module):
    """N of PEPNet's Gate NUs: 2 * sigmoid(V relu(U x + u) + v), numbers between 0 and 2 that something is scaled by.

    >>> GateUnit(stack=2, inputs=4, hidden=6, outputs=3)(torch.zeros(5, 4)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, *, stack: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = StackedLinear(stack=stack, inputs=inputs, outputs=hidden, rectify=True)
        self.scores = StackedLinear(stack=stack, inputs=hidden, outputs=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """What all gates read [B, D] -> [N, B, outputs]."""
        return GATE_RANGE * self.scores(self.hidden(x)).sigmoid()


class PEPNet(nn.Module):
    """Parameter and embedding personalized network (J. Chang et al., KDD 2023, arXiv 2302.01115).

        o        = GateUnit(Emb(s), stop(x)) * x                          EPNet: the scenario chooses among features
        h_t^1    = relu(W_t^1 o + b_t^1) * GateUnit_t^1(prior, stop(o))   PPNet: a tower per task, each hidden layer
        h_t^l    = relu(W_t^l h_t^(l - 1) + b_t^l) * GateUnit_t^l(prior, stop(o))     scaled for the row
        y_t      = w_t h_t^L + c_t

    stop(.) lets no gradient through. The paper's prior is the ids of user, item and author; a network here knows
    columns, not their roles: the prior is x, which holds them. `gate_units` is the hidden width of the gates.

    >>> network = PEPNet(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                  scenarios=4, tasks=2, embedding_width=8, units=(16, 8), gate_units=8, scenario_width=4)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        units: Sequence[int],
        gate_units: int,
        scenario_width: int,
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        width = self.embedding.width
        self.scenario = nn.Embedding(scenarios, scenario_width)
        self.choice = GateUnit(stack=1, inputs=scenario_width + width, hidden=gate_units, outputs=width)
        self.layers = nn.ModuleList(
            StackedLinear(stack=tasks, inputs=i, outputs=o, rectify=True) for i, o in pairwise([width, *units])
        )
        self.gates = nn.ModuleList(GateUnit(stack=tasks, inputs=2 * width, hidden=gate_units, outputs=o) for o in units)
        self.logits = StackedLogits(inputs=units[-1], outputs=outputs_of(tasks, task_outputs))

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        known = torch.cat([self.scenario(scenario), x.detach()], dim=1)
        h = x * self.choice(known).squeeze(0)  # [B, D]
        prior = torch.cat([x, h.detach()], dim=1)  # [B, 2D]
        for layer, gate in zip(self.layers, self.gates, strict=True):
            h = layer(h) * gate(prior)  # [T, B, h]
        return self.logits(h).t()  # [B, O]
