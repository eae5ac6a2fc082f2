"""AutoIFS: low-rank scenario and task units, and a selection of the flows between them.

Letters as in models/networks/layers.py, with rank r of the specific units and c logits of the widest task.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.additions import Additions
from models.networks.cpu_kernels import stacked_linear
from models.networks.data_spec import DataSpec
from models.networks.feature_embedding import FeatureEmbedding, NetworkConfig
from models.networks.layers import StackedExperts, StackedLinear, kept_outputs

FLOWS = 4  # of a task: from the shared and the scenario's unit, each to the shared and the task's unit
FINAL_TEMPERATURE = 100.0  # of the selection where the search ends; the authors' code


@dataclass(frozen=True, kw_only=True)
class AutoIFSConfig(NetworkConfig):
    """Widths of the first layers, of the scenario units and of the selection, rank, and training steps of the search.

    Args:
        shared_units: widths of the layers that every scenario and task shares.
        scenario_units: width of the scenario units' output.
        rank: of the specific units, which are products of two matrices.
        gate_units: widths of the hidden layers of the selection network.
        search_steps: training steps after which the selection is final.
    """

    shared_units: Sequence[int]
    scenario_units: int
    rank: int
    gate_units: Sequence[int]
    search_steps: int


class LowRank(nn.Module):
    """N linear layers of rank r: B_n A_n x + b_n, with A as Glorot has it and B, b at 0, so that all start at 0.

    >>> LowRank(stack=3, inputs=4, outputs=2, rank=1).weight().shape
    torch.Size([3, 2, 4])
    """

    def __init__(self, *, stack: int, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        deviation = (2 / (inputs + rank)) ** 0.5  # X. Glorot and Y. Bengio, 2010
        self.down = nn.Parameter(torch.randn(stack, rank, inputs) * deviation)
        self.up = nn.Parameter(torch.zeros(stack, outputs, rank))
        self.bias = nn.Parameter(torch.zeros(stack, outputs))

    def weight(self) -> Tensor:
        """The products B_n A_n [N, outputs, inputs]: for few outputs; else go through the rank."""
        return self.up @ self.down


class ScenarioUnits(nn.Module):
    """The shared unit W x + b and the own scenario's B_s A_s x + b_s, kept apart.

    >>> units = ScenarioUnits(scenarios=3, inputs=4, outputs=2, rank=1)
    >>> shared, specific = units(torch.zeros(5, 4), torch.zeros(5).int())
    >>> tuple(shared.shape), tuple(specific.shape)
    ((5, 2), (5, 2))
    """

    def __init__(self, *, scenarios: int, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.shared = StackedLinear(stack=1, inputs=inputs, outputs=outputs)
        self.specific = LowRank(stack=scenarios, inputs=inputs, outputs=outputs, rank=rank)

    def forward(self, x: Tensor, scenario: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [B, inputs] and their scenarios [B] -> shared and specific [B, outputs]; one wide product of x."""
        low, (scenarios, outputs, rank) = self.specific, self.specific.up.shape
        weight = torch.cat([self.shared.weight[0], low.down.flatten(0, 1)])  # [outputs + M * r, inputs]
        both = stacked_linear(x, weight.unsqueeze(0), None)[0]  # [B, outputs + M * r]
        shared, ranks = torch.split(both, [outputs, scenarios * rank], dim=1)
        own = torch.arange(scenarios, device=x.device) == scenario.unsqueeze(1)  # [B, M]
        ranks = ranks * own.repeat_interleave(rank, dim=1, output_size=scenarios * rank)  # [B, M * r]
        specific = ranks @ low.up.transpose(1, 2).flatten(0, 1)  # [B, outputs]
        assert self.shared.bias is not None
        return shared + self.shared.bias[0], specific + F.embedding(scenario, low.bias)


class TaskUnits(nn.Module):
    """The shared unit U v + c and every task's Q_t P_t v + c_t, in one wide product.

    >>> TaskUnits(inputs=4, outputs=1, tasks=2, rank=1)(torch.zeros(5, 4)).shape
    torch.Size([3, 5, 1])
    """

    def __init__(self, *, inputs: int, outputs: int, tasks: int, rank: int) -> None:
        super().__init__()
        self.shared = StackedLinear(stack=1, inputs=inputs, outputs=outputs)
        self.specific = LowRank(stack=tasks, inputs=inputs, outputs=outputs, rank=rank)

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, inputs] -> the shared unit's values, then those of each task [1 + T, B, outputs]."""
        assert self.shared.bias is not None
        weight = torch.cat([self.shared.weight, self.specific.weight()])  # [1 + T, outputs, inputs]
        return stacked_linear(x, weight, torch.cat([self.shared.bias, self.specific.bias]))


class FlowSelection(nn.Module):
    """Which of a row's flows are pruned: 1 takes a flow away, 0 leaves it.

    In the search a number between 0 and 1, sigmoid(temperature * n), whose temperature grows from 1 to
    FINAL_TEMPERATURE over `search_steps` training steps; from then on n > 0, without a gradient. The steps are counted
    on the device, so that a step can be captured as a CUDA graph.

    >>> FlowSelection(inputs=4, units=(8,), tasks=2, search_steps=10)(torch.zeros(5, 4)).shape
    torch.Size([2, 5, 4])
    """

    steps: Tensor

    def __init__(self, *, inputs: int, units: Sequence[int], tasks: int, search_steps: int) -> None:
        super().__init__()
        self.search_steps = search_steps
        self.hidden = StackedExperts(experts=1, inputs=inputs, units=units)
        self.scores = StackedLinear(stack=tasks, inputs=units[-1], outputs=FLOWS)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, D], read without a gradient -> the pruned share of each flow [T, B, FLOWS]."""
        if self.training:
            self.steps += 1
        scores: Tensor = self.scores(self.hidden(x.detach()).squeeze(0))  # [T, B, FLOWS]
        temperature = FINAL_TEMPERATURE ** (self.steps / self.search_steps).clamp(max=1)
        soft = (temperature * scores).sigmoid()
        return torch.where(self.steps > self.search_steps, (scores > 0).to(soft.dtype), soft)


class AutoIFS(nn.Module):
    """Automated information flow selection (C. Yang et al., WSDM 2026, arXiv 2512.13396).

        h      = MLP(x)                    layers of all scenarios and tasks
        z      = W h + b                   scenario-shared unit
        l      = B_s A_s h + b_s           scenario-specific unit of rank r, s the row's scenario
        f(v)   = U v + c                   task-shared unit
        g_t(v) = Q_t P_t v + c_t           task-specific unit of rank r
        y_t    = (f + g_t)(relu(z + l)) - p_t1 f(z) - p_t2 g_t(z) - p_t3 f(l) - p_t4 g_t(l)
        p_t    = selection(stop(x))        see FlowSelection; stop(.) lets no gradient through

    The fused network holds four flows, from z and l to f and g_t; p_t takes those away that do harm, row by row. Where
    no unit of z + l is below 0 a pruned flow is gone; elsewhere its linear part is.

    Only the abstract and summaries of the paper were at hand. The formulas, the start of the low-rank units at 0, the
    temperature and the absence of a penalty on flows (weight 0) follow the authors' published code with its default
    depth: one layer of scenario units and one of task units. It differs in three points, so that every peer has one
    recipe. After the search the code goes back to the weights of its last epoch and trains them again with the
    selection fixed; here training goes on. Its selection reads a frozen copy of the embeddings from then on; here the
    embeddings themselves. And it trains the selection with a hundredth of the learning rate; here with the whole.

    >>> data = DataSpec(table_rows=(100,), categorical_tables=(0,), bag_tables=(), bag_lengths=(), numeric=0,
    ...                 scenarios=4, task_outputs=(1, 1))
    >>> config = AutoIFSConfig(embedding_width=8, shared_units=(16,), scenario_units=12, rank=2, gate_units=(8,),
    ...                        search_steps=100)
    >>> network = AutoIFS(data, config)
    >>> network(torch.ones(10, 1).int(), torch.zeros(10, 0).int(), torch.zeros(10, 0), torch.zeros(10).int()).shape
    torch.Size([10, 2])
    """

    config_class = AutoIFSConfig
    kept: Tensor | None

    def __init__(self, data: DataSpec, config: AutoIFSConfig) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(data, config)
        self.additions = Additions(data, config, self.embedding)
        width, tasks, rank = self.embedding.width, data.tasks, config.rank
        self.shared = StackedExperts(experts=1, inputs=width, units=config.shared_units)
        self.scenario_units = ScenarioUnits(
            scenarios=data.scenarios, inputs=config.shared_units[-1], outputs=config.scenario_units, rank=rank
        )
        self.task_units = TaskUnits(
            inputs=config.scenario_units, outputs=max(data.task_outputs), tasks=tasks, rank=rank
        )
        self.selection = FlowSelection(
            inputs=width, units=config.gate_units, tasks=tasks, search_steps=config.search_steps
        )
        self.register_buffer("kept", kept_outputs(data.task_outputs), persistent=False)

    def forward(self, categorical: Tensor, bags: Tensor, numeric: Tensor, scenario: Tensor) -> Tensor:
        """Ids [B, F], bag ids [B, L] padded with -1, numbers [B, P], scenarios [B] -> logits [B, O]."""
        x = self.embedding(categorical, bags, numeric)  # [B, D]
        of_all, own = self.scenario_units(self.shared(x).squeeze(0), scenario)  # z, l: [B, h]
        units = self.task_units(torch.cat([(of_all + own).relu(), of_all, own]))  # [1 + T, 3 * B, c]
        shared, specific = torch.unflatten(units, 1, (3, -1)).tensor_split([1])  # [1, 3, B, c], [T, 3, B, c]
        pruned = self.selection(x).unflatten(2, (2, 2)).permute(0, 2, 3, 1).unsqueeze(4)  # [T, 2, 2, B, 1]
        flows = torch.stack([shared.expand_as(specific), specific], dim=2)[:, 1:]  # [T, 2, 2, B, c]
        logits = (shared + specific)[:, 0] - (pruned * flows).sum(dim=(1, 2))  # [T, B, c]
        by_output: Tensor = logits.transpose(1, 2).flatten(0, 1)  # [T * c, B]
        outputs = by_output if self.kept is None else by_output.index_select(0, self.kept)  # [O, B]
        added: Tensor = self.additions(outputs.t(), x)  # [B, O]
        return added
