"""PEPNet: gates that personalise embeddings and layers.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedLinear, StackedLogits

GATE_RANGE = 2.0  # of the gates: 0 .. 2, so that 1, no change, is in the middle


@dataclass(frozen=True, kw_only=True)
class PEPNetConfig(NetworkConfig):
    """Widths of the towers' layers, hidden width of the gates, width of the scenario embedding."""

    units: Sequence[int]
    gate_units: int
    scenario_width: int


class GateUnit(nn.Module):
    """N of PEPNet's Gate NUs: 2 * sigmoid(V relu(U x + u) + v), factors between 0 and 2.

    >>> GateUnit(stack=2, inputs=4, hidden=6, outputs=3)(torch.zeros(5, 4)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, *, stack: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden = StackedLinear(stack=stack, inputs=inputs, outputs=hidden, relu=True)
        self.scores = StackedLinear(stack=stack, inputs=hidden, outputs=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The input of all gates [B, D] -> [N, B, outputs]."""
        scores: Tensor = self.scores(self.hidden(x))  # [N, B, outputs]
        return GATE_RANGE * scores.sigmoid()


class PEPNet(nn.Module):
    """Parameter and embedding personalized network (J. Chang et al., KDD 2023, arXiv 2302.01115).

        o        = GateUnit(Emb(s), stop(x)) * x                          EPNet: the scenario chooses among features
        h_t^1    = relu(W_t^1 o + b_t^1) * GateUnit_t^1(prior, stop(o))   PPNet: a tower per task, each hidden layer
        h_t^l    = relu(W_t^l h_t^(l - 1) + b_t^l) * GateUnit_t^l(prior, stop(o))     scaled for the row
        y_t      = w_t h_t^L + c_t

    stop(.) lets no gradient through. The paper's prior is the ids of user, item and author; a network here knows
    columns, not their roles: the prior is x, which holds them.

    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> network = PEPNet(data, PEPNetConfig(embedding_width=8, units=(16, 8), gate_units=8, scenario_width=4))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = PEPNetConfig

    def __init__(self, data: DataSpec, config: PEPNetConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        tasks, width, units, hidden = data.tasks, self.embedding.width, config.units, config.gate_units
        self.scenario = nn.Embedding(data.scenarios, config.scenario_width)
        self.choice = GateUnit(stack=1, inputs=config.scenario_width + width, hidden=hidden, outputs=width)
        self.layers = nn.ModuleList(
            StackedLinear(stack=tasks, inputs=i, outputs=o, relu=True) for i, o in pairwise([width, *units])
        )
        self.gates = nn.ModuleList(GateUnit(stack=tasks, inputs=2 * width, hidden=hidden, outputs=o) for o in units)
        self.logits = StackedLogits(inputs=units[-1], outputs=data.task_outputs)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        known = torch.cat([self.scenario(scenario), x.detach()], dim=1)  # [B, scenario width + D]
        h = x * self.choice(known).squeeze(0)  # [B, D]
        prior = torch.cat([x, h.detach()], dim=1)  # [B, 2D]
        for layer, gate in zip(self.layers, self.gates, strict=True):
            h = layer(h) * gate(prior)  # [T, B, h]
        logits: Tensor = self.additions(self.logits(h).t(), x)  # [B, O]
        return logits
