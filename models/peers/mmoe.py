"""MMoE: a mixture of experts with a gate per task.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.cpu_kernels import mix_experts
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import Gates, StackedExperts, StackedTowers


@dataclass(frozen=True, kw_only=True)
class MMoEConfig(NetworkConfig):
    """Experts, widths of their and the towers' layers; `scenario_heads` gives every scenario its own towers."""

    experts: int
    expert_units: Sequence[int]
    tower_units: Sequence[int]
    scenario_heads: bool = False


class MMoE(nn.Module):
    """Multi-gate mixture of experts (J. Ma et al., KDD 2018): y_t = Tower_t(sum_k softmax(W_t x)_k * E_k(x)).

    All tasks share the experts and each has a gate. The paper has no scenarios: here the scenario is a feature in x.

    >>> import torch
    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> network = MMoE(data, MMoEConfig(embedding_width=8, experts=3, expert_units=(16, 8), tower_units=(8,)))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = MMoEConfig

    def __init__(self, data: DataSpec, config: MMoEConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        self.gates = Gates(mixtures=data.tasks, experts=config.experts, inputs=self.embedding.width)
        self.experts = StackedExperts(experts=config.experts, inputs=self.embedding.width, units=config.expert_units)
        self.towers = StackedTowers(
            scenarios=data.scenarios if config.scenario_heads else 1,
            inputs=config.expert_units[-1],
            units=config.tower_units,
            task_outputs=data.task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        tasks = mix_experts(self.experts(x).unsqueeze(0), self.gates(x))  # [T, B, h]
        logits: Tensor = self.additions(self.towers(tasks, scenario), x)  # [B, O]
        return logits
