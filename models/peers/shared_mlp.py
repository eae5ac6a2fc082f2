"""One perceptron for all scenarios and tasks.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedExperts, StackedLinear


@dataclass(frozen=True, kw_only=True)
class SharedMLPConfig(NetworkConfig):
    """Widths of the perceptron's hidden layers."""

    units: Sequence[int]


class SharedMLP(nn.Module):
    """One perceptron for all scenarios, one output per task (or class): y = W MLP(x) + b.

    The scenario reaches it only as a feature in x.

    >>> import torch
    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> network = SharedMLP(data, SharedMLPConfig(embedding_width=8, units=(16, 8)))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = SharedMLPConfig

    def __init__(self, data: DataSpec, config: SharedMLPConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        self.hidden = StackedExperts(experts=1, inputs=self.embedding.width, units=config.units)
        self.logits = StackedLinear(stack=1, inputs=config.units[-1], outputs=data.outputs)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        logits: Tensor = self.additions(self.logits(self.hidden(x)).squeeze(0), x)  # [B, O]
        return logits
