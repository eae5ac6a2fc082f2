"""What any network can be given beside its own idea: terms of the features that are added to its logits.

Letters as in models/networks/layers.py, and O logits of a row.
"""

from torch import Tensor, nn

from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.interactions import interaction


class Additions(nn.Module):
    """The interactions that the config of a network names; without any, the logits are the network's own.

    >>> import torch
    >>> data = DataSpec(table_rows=(5,), categorical_tables=(0, 0), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=3, task_outputs=(1, 1))
    >>> config = NetworkConfig(embedding_width=4, interactions=["fm"])
    >>> additions = Additions(data, config, FeatureEmbedding(data, config))
    >>> additions(torch.zeros(6, 2), torch.zeros(6, 8)).shape
    torch.Size([6, 2])
    """

    def __init__(self, data: DataSpec, config: NetworkConfig, embedding: FeatureEmbedding) -> None:
        super().__init__()
        shape = {"fields": embedding.fields, "width": config.embedding_width, "inputs": embedding.width}
        terms = {name: interaction(name, **shape, outputs=data.outputs) for name in config.interactions}
        self.interactions = nn.ModuleDict(terms)

    def forward(self, logits: Tensor, x: Tensor) -> Tensor:
        """The network's logits [B, O] and the features x [B, D] that it read -> logits [B, O]."""
        for term in self.interactions.values():
            logits = logits + term(x)  # [B, O]
        return logits
