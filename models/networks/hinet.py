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

Letters: B rows, D width of x, M scenarios, T tasks, K sub-experts of a mixture, H and h widths of the scenario and
task experts, O logits: one per task, but one per class of a multi-class task (`task_outputs`). The model returns logits
and knows no labels. What goes beyond the paper is an option of HiNet, off unless asked for.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.interactions import interaction
from models.networks.layers import FeatureEmbedding, Gates, StackedExperts, StackedTowers, mix, mix_own, outputs_of, own
from models.peers.adaptive import ScenarioView


class ExpertsOfSets(nn.Module):
    """Stacked sub-experts of which each reads one embedding set: of each mixture's K the first K / n read the first.

    Embedding collapse is milder where each set is learned through experts of its own (X. Guo et al., On the Embedding
    Collapse When Scaling Up Recommendation Models, ICML 2024). The n sets of a field lie side by side in x; the numbers
    are read by all.

    >>> experts = ExpertsOfSets(sets=2, fields=3, mixtures=5, sub_experts=4, inputs=3 * 16 + 1, numeric=1, units=(6,))
    >>> experts(torch.zeros(7, 49)).shape
    torch.Size([20, 7, 6])
    """

    def __init__(
        self,
        *,
        sets: int,
        fields: int,
        mixtures: int,
        sub_experts: int,
        inputs: int,
        numeric: int,
        units: Sequence[int],
        normalize: bool = False,
    ) -> None:
        super().__init__()
        if sub_experts % sets:
            raise ValueError(f"embedding_sets must divide sub_experts, but {sets} does not divide {sub_experts}")
        self.sets, self.fields, self.numeric, self.shape = sets, fields, numeric, (mixtures, sub_experts // sets)
        width, experts = (inputs - numeric) // sets + numeric, mixtures * sub_experts // sets
        self.of_set = nn.ModuleList(
            StackedExperts(experts=experts, inputs=width, units=units, normalize=normalize) for _ in range(sets)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, D] -> [mixtures * K, B, H]."""
        embedded, numeric = x.tensor_split([x.shape[1] - self.numeric], dim=1)
        views = embedded.unflatten(1, (self.fields, self.sets, -1)).unbind(2)  # n times [B, F, E]
        rows = (torch.cat([view.flatten(1), numeric], dim=1) for view in views)  # n times [B, D']
        parts = [experts(x).unflatten(0, self.shape) for experts, x in zip(self.of_set, rows, strict=True)]
        return torch.cat(parts, dim=1).flatten(0, 1)  # [mixtures * K, B, H]


class SubExpertIntegration(nn.Module):
    """SEI: the shared expert G and the scenarios' own S_1 .. S_M, each sum_k softmax(W x)_k * Q_k(x).

    All (1 + M) * K sub-experts read the same x: one stack; all 1 + M gates: one product.
    """

    def __init__(
        self,
        *,
        scenarios: int,
        sub_experts: int,
        inputs: int,
        units: Sequence[int],
        normalize: bool = False,
        detach_gates: bool = False,
        embedding_sets: int = 1,
        fields: int = 0,
        numeric: int = 0,
    ) -> None:
        super().__init__()
        self.mixtures, self.sub_experts = 1 + scenarios, sub_experts
        self.gates = Gates(mixtures=self.mixtures, experts=sub_experts, inputs=inputs, detach=detach_gates)
        self.experts: nn.Module
        if embedding_sets == 1:
            experts = self.mixtures * sub_experts
            self.experts = StackedExperts(experts=experts, inputs=inputs, units=units, normalize=normalize)
        else:
            self.experts = ExpertsOfSets(
                sets=embedding_sets,
                fields=fields,
                mixtures=self.mixtures,
                sub_experts=sub_experts,
                inputs=inputs,
                numeric=numeric,
                units=units,
                normalize=normalize,
            )

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
        self,
        *,
        tasks: int,
        task_experts: int,
        shared_experts: int,
        inputs: int,
        units: Sequence[int],
        normalize: bool = False,
        detach_gates: bool = False,
    ) -> None:
        super().__init__()
        self.tasks, self.task_experts = tasks, task_experts
        self.gates = Gates(mixtures=tasks, experts=task_experts + shared_experts, inputs=inputs, detach=detach_gates)
        self.experts = StackedExperts(
            experts=tasks * task_experts + shared_experts, inputs=inputs, units=units, normalize=normalize
        )

    def forward(self, context: Tensor) -> Tensor:
        """C [B, 3H] -> what each task reads, [T, B, h]."""
        weights, experts = self.gates(context), self.experts(context)  # [T, B, P + Q], [T * P + Q, B, h]
        return mix_own(experts, weights, self.task_experts)  # [T, B, h]


class HiNet(nn.Module):
    """The whole network; see the top of the file.

    `table_rows` to `numeric` describe the inputs (see FeatureEmbedding). `sub_experts` (K) and `expert_units` shape
    the scenario layer, `task_experts`, `shared_experts` and `task_expert_units` the task layer, `tower_units` the
    towers, `scenario_width` the embedding that the scenario attention reads. `scenario_heads` gives every scenario
    towers of its own; a row then leaves by its own scenario's and trains no other's. With one scenario there is
    nobody to listen to: the attention is left out and C = [G, S]. `task_outputs`: logits of each task, default one.

    Not in the paper, and off: `embedding_sets` gives every field that many independent embeddings of
    `embedding_width` and each sub-expert one set to read (see ExpertsOfSets; gates read all). `interactions` are terms
    of x that are added to the logits, fm and cross with `cross_layers` (models/networks/interactions.py). `normalize` puts a
    layer normalization before every ReLU of the scenario and task experts. `detach_gates` lets no gradient through the
    gates to what they read. `scenario_view` are the widths of a view of the row by its scenario (see ScenarioView) that
    all but the interactions read in place of x. `dropout` leaves out that share of x, drawn anew for every row and
    step, while it is trained. `neighbours` puts what user and item met in the training rows into x (see
    FeatureEmbedding). Two ablations: without `scenario_attention` C = [G, S], without `hierarchy` the scenario layer
    goes and C = x.

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
        embedding_sets: int = 1,
        interactions: Sequence[str] = (),
        cross_layers: int = 2,
        normalize: bool = False,
        detach_gates: bool = False,
        scenario_view: Sequence[int] = (),
        dropout: float = 0.0,
        scenario_attention: bool = True,
        hierarchy: bool = True,
        neighbours: int = 0,
        task_outputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.scenarios = scenarios
        self.embedding = FeatureEmbedding(
            table_rows=table_rows,
            categorical_tables=categorical_tables,
            bag_tables=bag_tables,
            bag_lengths=bag_lengths,
            numeric=numeric,
            embedding_width=embedding_sets * embedding_width,
            neighbours=neighbours,
        )
        whole, fields = self.embedding.width, self.embedding.fields
        if scenario_view and embedding_sets > 1:
            raise ValueError("embedding_sets are read apart, and a scenario_view joins them: use one of the two")
        self.view = ScenarioView(scenarios=scenarios, inputs=whole, units=scenario_view) if scenario_view else None
        width = scenario_view[-1] if scenario_view else whole
        self.integration = (
            SubExpertIntegration(
                scenarios=scenarios,
                sub_experts=sub_experts,
                inputs=width,
                units=expert_units,
                normalize=normalize,
                detach_gates=detach_gates,
                embedding_sets=embedding_sets,
                fields=fields,
                numeric=numeric,
            )
            if hierarchy
            else None
        )
        listens = scenario_attention and hierarchy and scenarios > 1
        self.scenario_attention = ScenarioAttention(scenarios=scenarios, width=scenario_width) if listens else None
        self.control = CustomizedGateControl(
            tasks=tasks,
            task_experts=task_experts,
            shared_experts=shared_experts,
            inputs=(3 if listens else 2) * expert_units[-1] if hierarchy else width,
            units=task_expert_units,
            normalize=normalize,
            detach_gates=detach_gates,
        )
        self.towers = StackedTowers(
            scenarios=scenarios if scenario_heads else 1,
            tasks=tasks,
            inputs=task_expert_units[-1],
            units=tower_units,
            task_outputs=task_outputs,
        )
        outputs = sum(outputs_of(tasks, task_outputs))
        shape = {"fields": fields, "width": embedding_sets * embedding_width, "inputs": whole, "outputs": outputs}
        self.interactions = nn.ModuleDict(
            {name: interaction(name, **shape, cross_layers=cross_layers) for name in interactions}
        )

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.dropout(self.embedding(categorical, bags, numeric))  # [B, D]
        context = self._context(self._read(x, scenario), scenario)  # [B, 3H]
        tasks = self.control(context)  # [T, B, h]
        logits: Tensor = self.towers(tasks, scenario)  # [B, O]
        for term in self.interactions.values():
            logits = logits + term(x)
        return logits

    def _read(self, x: Tensor, scenario: Tensor) -> Tensor:
        return x if self.view is None else self.view(x, scenario)  # [B, D']

    def _context(self, x: Tensor, scenario: Tensor) -> Tensor:
        if self.integration is None:
            return x  # [B, D]
        shared, specific = self.integration(x)  # [B, H], [M, B, H]
        parts = [shared, own(specific, scenario)]
        if self.scenario_attention is not None:
            parts.append(self.scenario_attention(specific, scenario))
        return torch.cat(parts, dim=1)  # [B, 3H]

    @torch.no_grad()
    def attention(self) -> Tensor:
        """[M, M]: row i is how much scenario i listens to each other; diagonal 0, rows sum to 1 (0: no attention)."""
        if self.scenario_attention is None:
            return torch.zeros(self.scenarios, self.scenarios)
        return self.scenario_attention.weights()

    @torch.no_grad()
    def gates(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> dict[str, Tensor]:
        """The weights of every gate for the rows, each summing to 1 over its last axis.

        `shared` [B, K]: sub-experts of G; `scenarios` [B, M, K]: sub-experts of each S_m;
        `tasks` [B, T, P + Q]: the task's own P experts, then the Q shared ones. Without `hierarchy` only `tasks`.
        """
        x = self._read(self.embedding(categorical, bags, numeric), scenario)
        control = self.control.gates(self._context(x, scenario)).transpose(0, 1)  # [B, T, P + Q]
        if self.integration is None:
            return {"tasks": control}
        integration = self.integration.gates(x).transpose(0, 1)  # [B, 1 + M, K]
        return {"shared": integration[:, 0], "scenarios": integration[:, 1:], "tasks": control}
