"""The shared-bottom network: the plain multi-task baseline that `dvc repro` trains beside HiNet.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedExperts, StackedTowers


@dataclass(frozen=True, kw_only=True)
class SharedBottomConfig(NetworkConfig):
    """Widths of the bottom's and the towers' layers; `scenario_heads` gives every scenario its own towers."""

    bottom_units: Sequence[int]
    tower_units: Sequence[int]
    scenario_heads: bool = False


class SharedBottom(nn.Module):
    """One perceptron that all scenarios and tasks share, and a tower per task (R. Caruana, Multitask Learning, 1997).

    The scenario reaches it only as a feature in x.

    >>> import torch
    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> network = SharedBottom(data, SharedBottomConfig(embedding_width=8, bottom_units=(16, 8), tower_units=(8,)))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = SharedBottomConfig

    def __init__(self, data: DataSpec, config: SharedBottomConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        self.tasks = data.tasks
        self.bottom = StackedExperts(experts=1, inputs=self.embedding.width, units=config.bottom_units)
        self.towers = StackedTowers(
            scenarios=data.scenarios if config.scenario_heads else 1,
            inputs=config.bottom_units[-1],
            units=config.tower_units,
            task_outputs=data.task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        bottom = self.bottom(x).expand(self.tasks, -1, -1)  # [T, B, h]
        logits: Tensor = self.additions(self.towers(bottom, scenario), x)  # [B, O]
        return logits
