"""Mixtures of experts that HiNet has to beat: MMoE, PLE, M3oE, from the same blocks.

Inputs and outputs are HiNet's; letters as in models/networks/layers.py, with M scenarios.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.layers import FeatureEmbedding, Gates, Inputs, StackedExperts, StackedTowers, mix, mix_own, own
from models.peers.adaptive import ScenarioView


class MMoE(nn.Module):
    """Multi-gate mixture of experts (J. Ma et al., KDD 2018): y_t = Tower_t(sum_k softmax(W_t x)_k * E_k(x)).

    All tasks share the experts and each has a gate. The paper knows no scenarios: here the scenario is a feature
    in x, and `scenario_heads` gives every scenario towers of its own.

    >>> network = MMoE(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                scenarios=4, tasks=2, embedding_width=8, experts=3, expert_units=(16, 8), tower_units=(8,))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        experts: int,
        expert_units: Sequence[int],
        tower_units: Sequence[int],
        scenario_heads: bool = False,
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        self.gates = Gates(mixtures=tasks, experts=experts, inputs=self.embedding.width)
        self.experts = StackedExperts(experts=experts, inputs=self.embedding.width, units=expert_units)
        self.towers = StackedTowers(
            scenarios=scenarios if scenario_heads else 1,
            tasks=tasks,
            inputs=expert_units[-1],
            units=tower_units,
            task_outputs=task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        tasks = mix(self.experts(x).unsqueeze(0), self.gates(x))  # [T, B, h]
        return self.towers(tasks, scenario)  # [B, O]


class Extraction(nn.Module):
    """A level of PLE. Task t: sum_e softmax(W_t z_t)_e * E_e, e over its own P experts and the Q shared ones.

    The experts of a task read what it is, z_t, the shared ones what is shared, z_0; below the last level what is
    shared goes on as the mixture of all T * P + Q experts by a gate that reads z_0.

    >>> level = Extraction(tasks=2, task_experts=2, shared_experts=1, inputs=4, units=(8,), last=False)
    >>> level(torch.zeros(5, 4)).shape, level(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5, 8]))
    """

    def __init__(
        self, *, tasks: int, task_experts: int, shared_experts: int, inputs: int, units: Sequence[int], last: bool
    ) -> None:
        super().__init__()
        self.tasks, self.task_experts, self.shared_experts = tasks, task_experts, shared_experts
        every = tasks * task_experts + shared_experts
        self.gates = Gates(mixtures=tasks, experts=task_experts + shared_experts, inputs=inputs)
        self.shared_gate = None if last else Gates(mixtures=1, experts=every, inputs=inputs)
        self.experts = StackedExperts(experts=every, inputs=inputs, units=units)

    def forward(self, z: Tensor) -> Tensor:
        """States [B, D] where all are the same yet, or [T + 1, B, D], tasks then shared -> [T + 1 or T, B, h]."""
        first = z.dim() == 2
        experts = self.experts(z if first else self._read(z))  # [T * P + Q, B, h]
        weights = self.gates(z if first else z[: self.tasks])  # [T, B, P + Q]
        mixtures = mix_own(experts, weights, self.task_experts)  # [T, B, h]
        if self.shared_gate is None:
            return mixtures
        shared = mix(experts.unsqueeze(0), self.shared_gate(z if first else z[self.tasks :]))  # [1, B, h]
        return torch.cat([mixtures, shared])  # [T + 1, B, h]

    def _read(self, z: Tensor) -> Tensor:
        specific, shared = z.tensor_split([self.tasks])  # [T, B, D], [1, B, D]
        specific = specific.repeat_interleave(self.task_experts, dim=0)
        return torch.cat([specific, shared.expand(self.shared_experts, -1, -1)])  # [T * P + Q, B, D]


class PLE(nn.Module):
    """Progressive layered extraction (H. Tang et al., RecSys 2020): levels of customized gate control, then towers.

    z^0 = x, z^l = Extraction_l(z^(l - 1)), y_t = Tower_t(z^L_t); one level is CGC. The paper knows no scenarios: here
    the scenario is a feature in x, and `scenario_heads` gives every scenario towers of its own.

    >>> network = PLE(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...               scenarios=4, tasks=2, embedding_width=8, levels=2, task_experts=2, shared_experts=1,
    ...               expert_units=(16, 8), tower_units=(8,))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        levels: int,
        task_experts: int,
        shared_experts: int,
        expert_units: Sequence[int],
        tower_units: Sequence[int],
        scenario_heads: bool = False,
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        level = partial(
            Extraction, tasks=tasks, task_experts=task_experts, shared_experts=shared_experts, units=expert_units
        )
        widths = [self.embedding.width, *[expert_units[-1]] * (levels - 1)]
        self.levels = nn.Sequential(*(level(inputs=width, last=i == levels) for i, width in enumerate(widths, start=1)))
        self.towers = StackedTowers(
            scenarios=scenarios if scenario_heads else 1,
            tasks=tasks,
            inputs=expert_units[-1],
            units=tower_units,
            task_outputs=task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        return self.towers(self.levels(x), scenario)  # [B, O]


class Balance(nn.Module):
    """How much each of `count` aspects keeps to its own expert: sigmoid(b) for its own, the rest shared evenly.

    >>> Balance(3)().sum(dim=1).tolist()
    [1.0, 1.0, 1.0]
    """

    own: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.ones(())) if count > 1 else None
        self.register_buffer("own", torch.eye(count), persistent=False)

    def forward(self) -> Tensor:
        """Weights [n, n] whose rows sum to 1."""
        if self.logit is None:
            return self.own
        share = self.logit.sigmoid()
        return self.own * share + (1 - self.own) * (1 - share) / (len(self.own) - 1)


class M3oE(nn.Module):
    """Multi-domain multi-task mixture of experts (Z. Zhang et al., SIGIR 2024, arXiv 2404.18465).

        r     = MLP(Star_s(x)) + MLP'(x)                                  the scenario's own view of the row
        F_st  = sum_k softmax(W_st r)_k * E_k(r)                          shared experts
                + sigmoid(a_S) * sum_m B_sm * S_m(r)                      scenarios' experts, balanced
                + sigmoid(a_T) * sum_j C_tj * T_j(r)                      tasks' experts, balanced
        y_st  = Tower_st(F_st)

    The first level of the fusion is B and C (see Balance), the second a_S and a_T: four learned numbers. Star_s is
    the layer of STAR; every layer but Star is normalized before its ReLU; the gates read r without a gradient.
    What is published does not fix all of this: the numbers being four for the whole network, their start at 1, the
    normalization, and the missing ReLU after Star follow the authors' code. It also learns the four numbers apart
    from the rest (AutoML, by DARTS); here they are weights as any other, so that every peer has one recipe.

    >>> network = M3oE(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                scenarios=4, tasks=2, embedding_width=8, star_units=(16, 12), experts=3, expert_units=(8,),
    ...                tower_units=(8,))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        star_units: Sequence[int],
        experts: int,
        expert_units: Sequence[int],
        tower_units: Sequence[int],
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        self.parts, view = (experts, scenarios, tasks), star_units[-1]
        self.view = ScenarioView(scenarios=scenarios, inputs=self.embedding.width, units=star_units)
        self.gates = Gates(mixtures=scenarios * tasks, experts=experts, inputs=view, detach=True)
        self.experts = StackedExperts(experts=sum(self.parts), inputs=view, units=expert_units, normalize=True)
        self.of_scenarios, self.of_tasks = Balance(scenarios), Balance(tasks)
        self.weights = nn.Parameter(torch.ones(2))  # a_S, a_T
        self.towers = StackedTowers(
            scenarios=scenarios,
            tasks=tasks,
            inputs=expert_units[-1],
            units=tower_units,
            normalize=True,
            task_outputs=task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        view = self.view(x, scenario)  # [B, D']
        return self.towers(self._fuse(view, scenario), scenario)  # [B, O]

    def _fuse(self, view: Tensor, scenario: Tensor) -> Tensor:
        shared, scenarios, tasks = self.experts(view).split(self.parts)  # [K, B, h], [M, B, h], [T, B, h]
        mixed = mix(shared.unsqueeze(0), self._gate(view, scenario))  # [T, B, h]
        balance = F.embedding(scenario, self.of_scenarios()).unsqueeze(0)  # [1, B, M]
        of_scenario, of_task = self.weights.sigmoid()
        mixed = mixed + of_scenario * mix(scenarios.unsqueeze(0), balance)  # [T, B, h]
        return mixed + of_task * torch.einsum("tj,jbh->tbh", self.of_tasks(), tasks)  # [T, B, h]

    def _gate(self, view: Tensor, scenario: Tensor) -> Tensor:
        weights = self.gates(view).unflatten(0, self.parts[1:])  # [M, T, B, K]
        return own(weights.transpose(1, 2).flatten(2), scenario).unflatten(1, (self.parts[2], -1)).transpose(0, 1)
