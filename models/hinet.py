"""HiNet: hierarchical information extraction for many scenarios and tasks.

J. Zhou et al., HiNet: Novel Multi-Scenario & Multi-Task Learning with Hierarchical Information Extraction, ICDE 2023,
arXiv 2303.06095. The file reads from the bottom of the paper's figure to its top:

    logits [B, T]                 one tower per task (option: per scenario and task)
      ^
    CustomizedGateControl         experts of each task and shared ones, mixed by a gate per task     (task layer)
      ^
    C = [G, S_own, A]             shared, the row's own scenario, what the others know
      ^             ^
      |       ScenarioAttention   A: the other scenarios' experts, weighted by the row's scenario alone
      |             ^
    SubExpertIntegration          G and S_1 .. S_M: mixtures of K sub-experts each                   (scenario layer)
      ^
    FeatureEmbedding              x

Letters: B rows, D width of x, M scenarios, T tasks, K sub-experts of a mixture, H and h widths of the scenario and
task experts. The model returns logits and knows no labels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.experts import FeatureEmbedding, Gates, StackedExperts, StackedTowers, mix, own


class SubExpertIntegration(nn.Module):
    """SEI: the shared expert G and the scenarios' own S_1 .. S_M, each sum_k softmax(W x)_k * Q_k(x).

    All (1 + M) * K sub-experts read the same x: one stack; all 1 + M gates: one product.
    """

    def __init__(self, *, scenarios: int, sub_experts: int, inputs: int, units: Sequence[int]) -> None:
        super().__init__()
        self.mixtures, self.sub_experts = 1 + scenarios, sub_experts
        self.gates = Gates(mixtures=self.mixtures, experts=sub_experts, inputs=inputs)
        self.experts = StackedExperts(experts=self.mixtures * sub_experts, inputs=inputs, units=units)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, D] -> what is shared, G [B, H], and what each scenario makes of the row, S [M, B, H]."""
        experts = self.experts(x).unflatten(0, (self.mixtures, self.sub_experts))  # [1 + M, K, B, H]
        mixtures = mix(experts, self.gates(x))  # [1 + M, B, H]
        return mixtures[0], mixtures[1:]


class ScenarioAttention(nn.Module):
    """SAN: A_i = sum over the other scenarios m of softmax(W_a Emb(s_i))_m * S_m(x).

    The gate sees the scenario only. The own scenario is left out before the softmax, so the weights of the
    M - 1 others sum to 1. The scenario's embedding is the attention's own, not the one in x.
    """

    nobody: Tensor

    def __init__(self, *, scenarios: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(scenarios, width)
        self.logits = nn.Linear(width, scenarios, bias=False)
        self.register_buffer("nobody", torch.eye(scenarios, dtype=torch.bool), persistent=False)

    def weights(self) -> Tensor:
        """[M, M]: row i is how much scenario i listens to each other one; its diagonal is 0, rows sum to 1."""
        logits = self.logits(self.embedding.weight)  # [M, M]
        return logits.masked_fill(self.nobody, -torch.inf).softmax(dim=1)

    def forward(self, specific: Tensor, scenario: Tensor) -> Tensor:
        """S [M, B, H] and the rows' scenarios [B] -> A [B, H]."""
        weights = F.embedding(scenario, self.weights())  # [B, M]
        return mix(specific.unsqueeze(0), weights.unsqueeze(0)).squeeze(0)  # [B, H]


class CustomizedGateControl(nn.Module):
    """CGC: T_j = sum_e softmax(W_j C)_e * E_e(C), e over the experts of task j and then the shared ones."""

    def __init__(
        self, *, tasks: int, task_experts: int, shared_experts: int, inputs: int, units: Sequence[int]
    ) -> None:
        super().__init__()
        self.tasks, self.task_experts = tasks, task_experts
        self.gates = Gates(mixtures=tasks, experts=task_experts + shared_experts, inputs=inputs)
        self.experts = StackedExperts(experts=tasks * task_experts + shared_experts, inputs=inputs, units=units)

    def forward(self, context: Tensor) -> Tensor:
        """C [B, 3H] -> what each task reads, [T, B, h]."""
        weights, experts = self.gates(context), self.experts(context)  # [T, B, P + Q], [T * P + Q, B, h]
        specific, shared = experts.tensor_split([self.tasks * self.task_experts])
        specific = specific.unflatten(0, (self.tasks, self.task_experts))  # [T, P, B, h]
        of_task, of_all = weights.tensor_split([self.task_experts], dim=2)
        return mix(specific, of_task) + mix(shared.unsqueeze(0), of_all)  # [T, B, h]


class HiNet(nn.Module):
    """The whole network; see the top of the file.

    `table_rows` to `numeric` describe the inputs (see FeatureEmbedding). `sub_experts` (K) and `expert_units` shape
    the scenario layer, `task_experts`, `shared_experts` and `task_expert_units` the task layer, `tower_units` the
    towers, `scenario_width` the embedding that the scenario attention reads. `scenario_heads` gives every scenario
    towers of its own; a row then leaves by its own scenario's and trains no other's. With one scenario there is
    nobody to listen to: the attention is left out and C = [G, S].

    >>> network = HiNet(table_rows=(100, 50), categorical_tables=(0, 1), bag_tables=(1,), bag_lengths=(5,), numeric=3,
    ...                 scenarios=4, tasks=2, embedding_width=8, sub_experts=3, expert_units=(16, 8), task_experts=2,
    ...                 shared_experts=1, task_expert_units=(8,), tower_units=(8,), scenario_width=6,
    ...                 scenario_heads=False)
    >>> rows = {"categorical": torch.ones(10, 2).int(), "bags": torch.full((10, 5), -1).int(),
    ...         "numeric": torch.zeros(10, 3), "scenario": torch.arange(10).int() % 4}
    >>> network(**rows).shape
    torch.Size([10, 2])
    >>> {name: tuple(weights.shape) for name, weights in network.gates(**rows).items()}
    {'shared': (10, 3), 'scenarios': (10, 4, 3), 'tasks': (10, 2, 3)}
    """

    def __init__(
        self,
        *,
        table_rows: Sequence[int],
        categorical_tables: Sequence[int],
        bag_tables: Sequence[int],
        bag_lengths: Sequence[int],
        numeric: int,
        scenarios: int,
        tasks: int,
        embedding_width: int,
        sub_experts: int,
        expert_units: Sequence[int],
        task_experts: int,
        shared_experts: int,
        task_expert_units: Sequence[int],
        tower_units: Sequence[int],
        scenario_width: int,
        scenario_heads: bool,
    ) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(
            table_rows=table_rows, categorical_tables=categorical_tables, bag_tables=bag_tables,
            bag_lengths=bag_lengths, numeric=numeric, embedding_width=embedding_width,
        )  # fmt: skip
        self.integration = SubExpertIntegration(
            scenarios=scenarios, sub_experts=sub_experts, inputs=self.embedding.width, units=expert_units
        )
        alone = scenarios == 1
        self.scenario_attention = None if alone else ScenarioAttention(scenarios=scenarios, width=scenario_width)
        self.control = CustomizedGateControl(
            tasks=tasks, task_experts=task_experts, shared_experts=shared_experts,
            inputs=(2 if alone else 3) * expert_units[-1], units=task_expert_units,
        )  # fmt: skip
        self.towers = StackedTowers(
            scenarios=scenarios if scenario_heads else 1, tasks=tasks, inputs=task_expert_units[-1], units=tower_units
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, T]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        context = self._context(x, scenario)  # [B, 3H]
        tasks = self.control(context)  # [T, B, h]
        return self.towers(tasks, scenario)  # [B, T]

    def _context(self, x: Tensor, scenario: Tensor) -> Tensor:
        shared, specific = self.integration(x)  # [B, H], [M, B, H]
        parts = [shared, own(specific, scenario)]
        if self.scenario_attention is not None:
            parts.append(self.scenario_attention(specific, scenario))
        return torch.cat(parts, dim=1)  # [B, 3H]

    @torch.no_grad()
    def attention(self) -> Tensor:
        """[M, M]: row i is how much scenario i listens to each other; diagonal 0, rows sum to 1 (all 0 if M is 1)."""
        if self.scenario_attention is None:
            return torch.zeros(1, 1)
        return self.scenario_attention.weights()

    @torch.no_grad()
    def gates(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> dict[str, Tensor]:
        """The weights of every gate for the rows, each summing to 1 over its last axis.

        `shared` [B, K]: sub-experts of G; `scenarios` [B, M, K]: sub-experts of each S_m;
        `tasks` [B, T, P + Q]: the task's own P experts, then the Q shared ones.
        """
        x = self.embedding(categorical, bags, numeric)
        integration = self.integration.gates(x).transpose(0, 1)  # [B, 1 + M, K]
        control = self.control.gates(self._context(x, scenario)).transpose(0, 1)  # [B, T, P + Q]
        return {"shared": integration[:, 0], "scenarios": integration[:, 1:], "tasks": control}
