"""The plain networks that HiNet has to beat, from the same blocks, with the same inputs and outputs.

The others stand in models/peers/mixtures.py (mixtures of experts) and models/peers/adaptive.py (one network that adapts to the
scenario). Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from models.networks.layers import (
    FeatureEmbedding,
    Inputs,
    StackedExperts,
    StackedLinear,
    StackedTowers,
    outputs_of,
    own,
)


class SharedBottom(nn.Module):
    """One perceptron that all scenarios and tasks share, and a tower per task (R. Caruana, Multitask Learning, 1997).

    The scenario is known to it as a feature in x only; `scenario_heads` gives every scenario towers of its own.

    >>> import torch
    >>> network = SharedBottom(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                        scenarios=4, tasks=2, embedding_width=8, bottom_units=(16, 8), tower_units=(8,))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        bottom_units: Sequence[int],
        tower_units: Sequence[int],
        scenario_heads: bool = False,
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        self.tasks = tasks
        self.bottom = StackedExperts(experts=1, inputs=self.embedding.width, units=bottom_units)
        self.towers = StackedTowers(
            scenarios=scenarios if scenario_heads else 1,
            tasks=tasks,
            inputs=bottom_units[-1],
            units=tower_units,
            task_outputs=task_outputs,
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        bottom = self.bottom(x).expand(self.tasks, -1, -1)  # [T, B, h]
        return self.towers(bottom, scenario)  # [B, O]


class SharedMLP(nn.Module):
    """One perceptron for all scenarios, one output per task (or class): y = W MLP(x) + b.

    The scenario is known to it as a feature in x only.

    >>> import torch
    >>> network = SharedMLP(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                     scenarios=4, tasks=2, embedding_width=8, units=(16, 8))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        units: Sequence[int],
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        self.hidden = StackedExperts(experts=1, inputs=self.embedding.width, units=units)
        self.logits = StackedLinear(stack=1, inputs=units[-1], outputs=sum(outputs_of(tasks, task_outputs)))

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        return self.logits(self.hidden(x)).squeeze(0)  # [B, O]


class MLPPerScenario(nn.Module):
    """A perceptron per scenario on shared embeddings: y = W_s MLP_s(x) + b_s, s the row's scenario.

    A row leaves by its own scenario's perceptron and trains no other's.

    >>> import torch
    >>> network = MLPPerScenario(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                          scenarios=4, tasks=2, embedding_width=8, units=(16, 8))
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    def __init__(
        self,
        *,
        scenarios: int,
        tasks: int,
        units: Sequence[int],
        task_outputs: Sequence[int] | None = None,
        **inputs: Unpack[Inputs],
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(**inputs)
        self.hidden = StackedExperts(experts=scenarios, inputs=self.embedding.width, units=units)
        outputs = sum(outputs_of(tasks, task_outputs))
        self.logits = StackedLinear(stack=scenarios, inputs=units[-1], outputs=outputs)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        return own(self.logits(self.hidden(x)), scenario)  # [B, O]
