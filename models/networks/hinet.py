"""HiNet: hierarchical information extraction for many scenarios and tasks.

J. Zhou et al., HiNet: Novel Multi-Scenario & Multi-Task Learning with Hierarchical Information Extraction, ICDE 2023,
arXiv 2303.06095. The file reads from the bottom of the paper's figure to its top:

    logits [B, O]                 one tower per task (option: per scenario and task)
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

Letters: B rows, D width of x, M scenarios, T tasks, K sub-experts of a mixture, P experts of each task and Q shared
ones, H and h widths of the scenario and task experts, O logits: one per task, but one per class of a multi-class task.
The network returns logits and knows no labels. Additions to the paper and ablations are options of HiNetConfig, off by
default.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.cpu_kernels import mix_experts
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import Gates, StackedExperts, StackedTowers, mix_specific_and_shared, own_scenario
from models.networks.scenario_view import ScenarioView


@dataclass(frozen=True, kw_only=True)
class HiNetConfig(NetworkConfig):
    """The sizes of HiNet's blocks, and its options.

    Args:
        sub_experts: K, the sub-experts of each mixture of the scenario layer.
        expert_units: widths of a sub-expert's layers; the last is H.
        task_experts: P, the experts of each task.
        shared_experts: Q, the experts that all tasks share.
        task_expert_units: widths of a task expert's layers; the last is h.
        tower_units: widths of a tower's hidden layers.
        scenario_width: width of the scenario embedding that the scenario attention reads.
        scenario_heads: every scenario has its own towers, which rows of other scenarios do not train.
        scenario_view: widths of a ScenarioView of x, which all but the interactions read (not in the paper).
        scenario_attention: False: C = [G, S_own] (ablation).
        hierarchy: False: no scenario layer, C = x (ablation).
    """

    sub_experts: int
    expert_units: Sequence[int]
    task_experts: int
    shared_experts: int
    task_expert_units: Sequence[int]
    tower_units: Sequence[int]
    scenario_width: int
    scenario_heads: bool = False
    scenario_view: Sequence[int] = ()
    scenario_attention: bool = True
    hierarchy: bool = True


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
        """Rows [B, D] -> the shared expert's output G [B, H] and each scenario's, S [M, B, H]."""
        experts = torch.unflatten(self.experts(x), 0, (self.mixtures, self.sub_experts))  # [1 + M, K, B, H]
        mixtures = mix_experts(experts, self.gates(x))  # [1 + M, B, H]
        return mixtures[0], mixtures[1:]


class ScenarioAttention(nn.Module):
    """SAN: A_i = sum over the other scenarios m of softmax(W_a Emb(s_i))_m * S_m(x).

    The gate sees the scenario only. The row's own scenario is left out before the softmax, so the weights of the M - 1
    others sum to 1. The scenario's embedding is the attention's own, not the one in x.
    """

    own: Tensor

    def __init__(self, *, scenarios: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(scenarios, width)
        self.logits = nn.Linear(width, scenarios, bias=False)
        self.register_buffer("own", torch.eye(scenarios, dtype=torch.bool), persistent=False)  # [M, M]

    def weights(self) -> Tensor:
        """[M, M]: row i holds scenario i's weights on the other scenarios; its diagonal is 0, rows sum to 1."""
        logits: Tensor = self.logits(self.embedding.weight)  # [M, M]
        return logits.masked_fill(self.own, -torch.inf).softmax(dim=1)

    def forward(self, specific: Tensor, scenario: Tensor) -> Tensor:
        """S [M, B, H] and the rows' scenarios [B] -> A [B, H]."""
        weights = F.embedding(scenario, self.weights())  # [B, M]
        return mix_experts(specific.unsqueeze(0), weights.unsqueeze(0)).squeeze(0)  # [B, H]


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
        """C [B, 3H] -> the input of each task's tower [T, B, h]."""
        weights, experts = self.gates(context), self.experts(context)  # [T, B, P + Q], [T * P + Q, B, h]
        return mix_specific_and_shared(experts, weights, self.task_experts)  # [T, B, h]


class HiNet(nn.Module):
    """The whole network; see the top of the file.

    With one scenario there is no other scenario: the attention is left out and C = [G, S_own].

    >>> data = DataSpec(table_rows=(100, 50), categorical_tables=(0, 1), bag_tables=(1,), bag_lengths=(5,), numeric=3,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> config = HiNetConfig(embedding_width=8, sub_experts=3, expert_units=(16, 8), task_experts=2, shared_experts=1,
    ...                      task_expert_units=(8,), tower_units=(8,), scenario_width=6)
    >>> network = HiNet(data, config)
    >>> rows = {"categorical": torch.ones(10, 2).int(), "bags": torch.full((10, 5), -1).int(),
    ...         "numeric": torch.zeros(10, 3), "scenario": torch.arange(10).int() % 4}
    >>> network(**rows).shape
    torch.Size([10, 2])
    >>> {name: tuple(weights.shape) for name, weights in network.gates(**rows).items()}
    {'shared': (10, 3), 'scenarios': (10, 4, 3), 'tasks': (10, 2, 3)}
    """

    config_class = HiNetConfig

    def __init__(self, data: DataSpec, config: HiNetConfig) -> None:
        super().__init__()
        self.scenarios = data.scenarios
        self.embedding = FeatureEmbedding(data, config)
        self.view = _view(data, config, self.embedding.width)
        width = config.scenario_view[-1] if config.scenario_view else self.embedding.width  # D
        self.integration = _integration(data, config, width)
        self.scenario_attention = _attention(data, config)
        parts = 2 if self.scenario_attention is None else 3  # of C
        self.control = CustomizedGateControl(
            tasks=data.tasks,
            task_experts=config.task_experts,
            shared_experts=config.shared_experts,
            inputs=parts * config.expert_units[-1] if config.hierarchy else width,
            units=config.task_expert_units,
        )
        self.towers = StackedTowers(
            scenarios=data.scenarios if config.scenario_heads else 1,
            inputs=config.task_expert_units[-1],
            units=config.tower_units,
            task_outputs=data.task_outputs,
        )
        self.additions = Additions(data, config, self.embedding)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        context = self._context(self._read(x, scenario), scenario)  # [B, 3H]
        tasks = self.control(context)  # [T, B, h]
        logits: Tensor = self.additions(self.towers(tasks, scenario), x)  # [B, O]
        return logits

    def _read(self, x: Tensor, scenario: Tensor) -> Tensor:
        """What the layers above read: x, or the scenario's view of it [B, D']."""
        return x if self.view is None else self.view(x, scenario)

    def _context(self, x: Tensor, scenario: Tensor) -> Tensor:
        """C: the scenario layer."""
        if self.integration is None:
            return x  # [B, D]
        shared, specific = self.integration(x)  # [B, H], [M, B, H]
        parts = [shared, own_scenario(specific, scenario)]
        if self.scenario_attention is not None:
            parts.append(self.scenario_attention(specific, scenario))
        return torch.cat(parts, dim=1)  # [B, 3H]

    @torch.no_grad()
    def attention(self) -> Tensor:
        """[M, M]: row i holds scenario i's weights on the other scenarios, which sum to 1 (all 0: no attention)."""
        if self.scenario_attention is None:
            return torch.zeros(self.scenarios, self.scenarios)
        return self.scenario_attention.weights()

    @torch.no_grad()
    def gates(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> dict[str, Tensor]:
        """The weights of every gate for the rows, each summing to 1 over its last axis.

        `shared` [B, K]: sub-experts of G; `scenarios` [B, M, K]: sub-experts of each S_m;
        `tasks` [B, T, P + Q]: the task's own P experts, then the Q shared ones. Without `hierarchy` only `tasks`.
        """
        x = self._read(self.embedding(categorical, bags, numeric), scenario)  # [B, D]
        control = self.control.gates(self._context(x, scenario)).transpose(0, 1)  # [B, T, P + Q]
        if self.integration is None:
            return {"tasks": control}
        integration = self.integration.gates(x).transpose(0, 1)  # [B, 1 + M, K]
        return {"shared": integration[:, 0], "scenarios": integration[:, 1:], "tasks": control}


def _view(data: DataSpec, config: HiNetConfig, width: int) -> ScenarioView | None:
    if not config.scenario_view:
        return None
    return ScenarioView(scenarios=data.scenarios, inputs=width, units=config.scenario_view)


def _integration(data: DataSpec, config: HiNetConfig, width: int) -> SubExpertIntegration | None:
    if not config.hierarchy:
        return None
    return SubExpertIntegration(
        scenarios=data.scenarios, sub_experts=config.sub_experts, inputs=width, units=config.expert_units
    )


def _attention(data: DataSpec, config: HiNetConfig) -> ScenarioAttention | None:
    if not config.scenario_attention or not config.hierarchy or data.scenarios == 1:
        return None
    return ScenarioAttention(scenarios=data.scenarios, width=config.scenario_width)
