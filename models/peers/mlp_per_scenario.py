"""One perceptron per scenario.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedExperts, StackedLinear, own_scenario


@dataclass(frozen=True, kw_only=True)
class MLPPerScenarioConfig(NetworkConfig):
    """Widths of the hidden layers of every scenario's perceptron."""

    units: Sequence[int]


class MLPPerScenario(nn.Module):
    """A perceptron per scenario on shared embeddings: y = W_s MLP_s(x) + b_s, s the row's scenario.

    A row is read by its own scenario's perceptron and trains no other scenario's.

    >>> import torch
    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> network = MLPPerScenario(data, MLPPerScenarioConfig(embedding_width=8, units=(16, 8)))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = MLPPerScenarioConfig

    def __init__(self, data: DataSpec, config: MLPPerScenarioConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        self.hidden = StackedExperts(experts=data.scenarios, inputs=self.embedding.width, units=config.units)
        self.logits = StackedLinear(stack=data.scenarios, inputs=config.units[-1], outputs=data.outputs)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        logits: Tensor = self.additions(own_scenario(self.logits(self.hidden(x)), scenario), x)  # [B, O]
        return logits
