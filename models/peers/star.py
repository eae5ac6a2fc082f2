"""STAR: a perceptron per scenario around a shared one.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedExperts, StackedLinear, own_scenario
from models.networks.scenario_view import StarLinear


@dataclass(frozen=True, kw_only=True)
class STARConfig(NetworkConfig):
    """Widths of the star's and the auxiliary network's layers and of the scenario embedding; the norm may be off."""

    units: Sequence[int]
    auxiliary_units: Sequence[int]
    scenario_width: int
    partitioned_norm: bool


class PartitionedNorm(nn.Module):
    """Batch normalisation by scenario: g * g_s * (x - mean_s) / sqrt(variance_s + epsilon) + h + h_s.

    Mean and variance are those of the scenario's rows in the batch; each scenario keeps moving ones for scoring: the
    mean over its batches, from the 1 / `momentum`th on a moving one. The paper draws batches of one scenario and is
    silent on epsilon: 1e-3 here, for where a feature is constant in a scenario, its change since the moving mean was
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
        shift = self.shared_shift + self.shift - scale * mean  # [M, D]
        return x * F.embedding(scenario, scale) + F.embedding(scenario, shift)  # [B, D]

    def _of_batch(self, x: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance [M, D] of each scenario's rows in the batch; the moving ones follow them."""
        rows = torch.arange(len(self.mean), device=x.device).unsqueeze(1) == scenario  # [M, B]
        counts = rows.sum(dim=1, keepdim=True)  # [M, 1]
        share = rows.to(x.dtype) / counts.clamp(min=1)  # [M, B]
        with torch.autocast(x.device.type, enabled=False):  # statistics at full precision
            mean = share @ x  # [M, D]
            variance = share @ (x - F.embedding(scenario, mean)).square()  # [M, D]
        self._update_moving(mean.detach(), variance.detach(), counts > 0)
        return mean, variance

    def _update_moving(self, mean: Tensor, variance: Tensor, present: Tensor) -> None:
        self.batches += present
        pace = present / self.batches.clamp(min=1, max=1 / self.momentum)  # [M, 1]
        self.mean += pace * (mean - self.mean)
        self.variance += pace * (variance - self.variance)


class STAR(nn.Module):
    """Star topology adaptive recommender (X. Sheng et al., CIKM 2021, arXiv 2101.11427).

    y_s = Star_s(Norm_s(x)) + Auxiliary(x, s). Star_s is a perceptron of StarLinear layers, Norm_s a PartitionedNorm
    (left out without `partitioned_norm`). The auxiliary network is a small perceptron that reads x and an embedding of
    the scenario, so that the scenario has a short path to the logit. The paper has one task: here both have an output
    per task (or class). A row trains no other scenario's weights.

    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> config = STARConfig(embedding_width=8, units=(16, 8), auxiliary_units=(8,), scenario_width=4,
    ...                     partitioned_norm=True)
    >>> network = STAR(data, config)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = STARConfig

    def __init__(self, data: DataSpec, config: STARConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        scenarios, width, units = data.scenarios, self.embedding.width, config.units
        self.norm = PartitionedNorm(scenarios=scenarios, width=width) if config.partitioned_norm else None
        self.star = nn.Sequential(
            *(StarLinear(scenarios=scenarios, inputs=i, outputs=o, relu=True) for i, o in pairwise([width, *units])),
            StarLinear(scenarios=scenarios, inputs=units[-1], outputs=data.outputs),
        )
        self.scenario = nn.Embedding(scenarios, config.scenario_width)
        self.auxiliary = nn.Sequential(
            StackedExperts(experts=1, inputs=width + config.scenario_width, units=config.auxiliary_units),
            StackedLinear(stack=1, inputs=config.auxiliary_units[-1], outputs=data.outputs),
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        normal = x if self.norm is None else self.norm(x, scenario)  # [B, D]
        auxiliary: Tensor = self.auxiliary(torch.cat([x, self.scenario(scenario)], dim=1)).squeeze(0)  # [B, O]
        logits: Tensor = self.additions(own_scenario(self.star(normal), scenario) + auxiliary, x)  # [B, O]
        return logits
