"""PLE: levels of customized gate control.

Letters as in models/networks/layers.py, with P experts of each task and Q shared ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.cpu_kernels import mix_experts
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import Gates, StackedExperts, StackedTowers, mix_specific_and_shared


@dataclass(frozen=True, kw_only=True)
class PLEConfig(NetworkConfig):
    """Levels, experts of each task and shared ones, widths; `scenario_heads` gives every scenario its own towers."""

    levels: int
    task_experts: int
    shared_experts: int
    expert_units: Sequence[int]
    tower_units: Sequence[int]
    scenario_heads: bool = False


class Extraction(nn.Module):
    """A level of PLE. Task t: sum_e softmax(W_t z_t)_e * E_e, e over its own P experts and the Q shared ones.

    The experts of a task read its state z_t, the shared experts the shared state z_0. Below the last level the next
    shared state is the mixture of all T * P + Q experts by a gate that reads z_0.

    >>> level = Extraction(tasks=2, task_experts=2, shared_experts=1, inputs=4, units=(8,), last=False)
    >>> level(torch.zeros(5, 4)).shape, level(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 8]), torch.Size([3, 5, 8]))
    """

    def __init__(
        self, *, tasks: int, task_experts: int, shared_experts: int, inputs: int, units: Sequence[int], last: bool
    ) -> None:
        super().__init__()
        self.tasks, self.task_experts, self.shared_experts = tasks, task_experts, shared_experts
        experts = tasks * task_experts + shared_experts
        self.gates = Gates(mixtures=tasks, experts=task_experts + shared_experts, inputs=inputs)
        self.shared_gate = None if last else Gates(mixtures=1, experts=experts, inputs=inputs)
        self.experts = StackedExperts(experts=experts, inputs=inputs, units=units)

    def forward(self, z: Tensor) -> Tensor:
        """The first level's one state [B, D], or [T + 1, B, D], tasks then shared -> [T + 1 or T, B, h]."""
        first = z.dim() == 2
        experts = self.experts(z if first else self._by_expert(z))  # [T * P + Q, B, h]
        weights = self.gates(z if first else z[: self.tasks])  # [T, B, P + Q]
        mixtures = mix_specific_and_shared(experts, weights, self.task_experts)  # [T, B, h]
        if self.shared_gate is None:
            return mixtures
        shared = mix_experts(experts.unsqueeze(0), self.shared_gate(z if first else z[self.tasks :]))  # [1, B, h]
        return torch.cat([mixtures, shared])  # [T + 1, B, h]

    def _by_expert(self, z: Tensor) -> Tensor:
        """The state that each expert reads."""
        specific, shared = z.tensor_split([self.tasks])  # [T, B, D], [1, B, D]
        specific = specific.repeat_interleave(self.task_experts, dim=0)  # [T * P, B, D]
        return torch.cat([specific, shared.expand(self.shared_experts, -1, -1)])  # [T * P + Q, B, D]


class PLE(nn.Module):
    """Progressive layered extraction (H. Tang et al., RecSys 2020): levels of customized gate control, then towers.

    z^0 = x, z^l = Extraction_l(z^(l - 1)), y_t = Tower_t(z^L_t); one level is CGC. The paper has no scenarios: here the
    scenario is a feature in x.

    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> config = PLEConfig(embedding_width=8, levels=2, task_experts=2, shared_experts=1, expert_units=(16, 8),
    ...                    tower_units=(8,))
    >>> network = PLE(data, config)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = PLEConfig

    def __init__(self, data: DataSpec, config: PLEConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        widths = [self.embedding.width, *[config.expert_units[-1]] * (config.levels - 1)]
        self.levels = nn.Sequential(
            *(
                Extraction(
                    tasks=data.tasks,
                    task_experts=config.task_experts,
                    shared_experts=config.shared_experts,
                    inputs=width,
                    units=config.expert_units,
                    last=level == config.levels,
                )
                for level, width in enumerate(widths, start=1)
            )
        )
        self.towers = StackedTowers(
            scenarios=data.scenarios if config.scenario_heads else 1,
            inputs=config.expert_units[-1],
            units=config.tower_units,
            task_outputs=data.task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        logits: Tensor = self.additions(self.towers(self.levels(x), scenario), x)  # [B, O]
        return logits
