"""M3oE: shared, scenarios' and tasks' experts, fused in two levels.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.cpu_kernels import mix_experts
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import Gates, StackedExperts, StackedTowers, own_scenario
from models.networks.scenario_view import ScenarioView


@dataclass(frozen=True, kw_only=True)
class M3oEConfig(NetworkConfig):
    """Widths of the scenario's view, the shared experts, and widths of the experts' and the towers' layers."""

    star_units: Sequence[int]
    experts: int
    expert_units: Sequence[int]
    tower_units: Sequence[int]


class Balance(nn.Module):
    """Each of `count` aspects gives sigmoid(b) to its own expert and the rest in equal parts to the others.

    >>> Balance(3)().sum(dim=1).tolist()
    [1.0, 1.0, 1.0]
    """

    own: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.ones(())) if count > 1 else None
        self.register_buffer("own", torch.eye(count), persistent=False)

    def forward(self) -> Tensor:
        """Weights [count, count] whose rows sum to 1."""
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
    the layer of STAR; every layer but Star is normalised before its ReLU; the gates read r without a gradient.
    The paper does not fix all of this: one set of four numbers for the whole network, their start at 1, the
    normalisation, and the missing ReLU after Star follow the authors' code. It also learns the four numbers apart
    from the rest (AutoML, by DARTS); here they are weights as any other, so that every peer has one recipe.

    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> config = M3oEConfig(embedding_width=8, star_units=(16, 12), experts=3, expert_units=(8,), tower_units=(8,))
    >>> network = M3oE(data, config)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = M3oEConfig

    def __init__(self, data: DataSpec, config: M3oEConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        scenarios, tasks, view, units = data.scenarios, data.tasks, config.star_units[-1], config.expert_units
        self.parts = (config.experts, scenarios, tasks)
        self.view = ScenarioView(scenarios=scenarios, inputs=self.embedding.width, units=config.star_units)
        self.gates = Gates(mixtures=scenarios * tasks, experts=config.experts, inputs=view, detach=True)
        self.experts = StackedExperts(experts=sum(self.parts), inputs=view, units=units, normalize=True)
        self.of_scenarios, self.of_tasks = Balance(scenarios), Balance(tasks)
        self.weights = nn.Parameter(torch.ones(2))  # a_S, a_T
        self.towers = StackedTowers(
            scenarios=scenarios,
            inputs=units[-1],
            units=config.tower_units,
            task_outputs=data.task_outputs,
            normalize=True,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        view = self.view(x, scenario)  # [B, D']
        logits: Tensor = self.additions(self.towers(self._fuse(view, scenario), scenario), x)  # [B, O]
        return logits

    def _fuse(self, view: Tensor, scenario: Tensor) -> Tensor:
        """F: the view [B, D'] -> the input of each task's tower [T, B, h]."""
        shared, scenarios, tasks = torch.split(self.experts(view), list(self.parts))  # [K, B, h], [M, B, h], [T, B, h]
        mixed = mix_experts(shared.unsqueeze(0), self._gate(view, scenario))  # [T, B, h]
        balance = F.embedding(scenario, self.of_scenarios()).unsqueeze(0)  # [1, B, M]
        scenario_weight, task_weight = self.weights.sigmoid().unbind()
        mixed = mixed + scenario_weight * mix_experts(scenarios.unsqueeze(0), balance)  # [T, B, h]
        return mixed + task_weight * torch.einsum("tj,jbh->tbh", self.of_tasks(), tasks)  # [T, B, h]

    def _gate(self, view: Tensor, scenario: Tensor) -> Tensor:
        """The weights of the shared experts by the row's own scenario [T, B, K]."""
        weights = torch.unflatten(self.gates(view), 0, self.parts[1:])  # [M, T, B, K]
        own = own_scenario(weights.transpose(1, 2).flatten(2), scenario)  # [B, T * K]
        return torch.unflatten(own, 1, (self.parts[2], -1)).transpose(0, 1)  # [T, B, K]
