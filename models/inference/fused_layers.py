"""HiNet's layers for scoring: weights in the order that the products want, all experts at once or one by one.

Few rows cost calls rather than arithmetic: all experts of a stack go through a layer in one batched product. Many rows
are faster one expert after the other, through all its layers: its rows are still in the cache when they are read again.
Both give the network's results to 1e-5. Letters as in models/inference/fused.py; X experts of a stack.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.inference.partial_activations import detached
from models.networks.cpu_kernels import SMALL_PRODUCT, linear_relu
from models.networks.hinet import CustomizedGateControl, HiNet
from models.networks.layers import StackedLinear, StackedTowers

Uses = list[tuple[int, list[tuple[int, int]]]]  # the experts to run, and for each the (mixture, row of weights) pairs


class ExpertStack:
    """X perceptrons of the same shape with a ReLU after every layer."""

    def __init__(self, layers: Sequence[StackedLinear]) -> None:
        pairs = [detached(layer) for layer in layers]  # weight [X, outputs, inputs], bias [X, outputs]
        self.stacked = [(weight.transpose(1, 2).contiguous(), bias.unsqueeze(1)) for weight, bias in pairs]
        self.single = list(zip(*(zip(weight, bias, strict=True) for weight, bias in pairs), strict=True))

    @property
    def largest(self) -> int:
        """The number of weights of an expert's largest layer; 0 without layers."""
        return max((weight[0].numel() for weight, _ in self.stacked), default=0)

    def all(self, x: Tensor) -> Tensor:
        """Rows of each expert [X, N, inputs] -> [X, N, H], one batched product per layer."""
        for weight, bias in self.stacked:
            x = torch.baddbmm(bias, x, weight).relu_()
        return x

    def one(self, expert: int, x: Tensor) -> Tensor:
        """Rows [N, inputs] -> [N, H] through all layers of one expert."""
        for weight, bias in self.single[expert]:
            x = linear_relu(x, weight, bias)
        return x

    def mix_one_by_one(self, read: Callable[[int], Tensor], weights: Tensor, uses: Uses) -> list[Tensor]:
        """Mixtures [N, H] of the experts' outputs from their inputs `read(expert)` [N, inputs] and weights [W, N]."""
        mixtures: dict[int, Tensor] = {}
        for expert, pairs in uses:
            y = self.one(expert, read(expert))  # [N, H]
            for mixture, row in pairs:
                weight = weights[row].unsqueeze(1)  # [N, 1]
                known = mixtures.get(mixture)
                mixtures[mixture] = y * weight if known is None else known.addcmul_(y, weight)
        return [mixtures[mixture] for mixture in sorted(mixtures)]


class FusedScenarioLayer:
    """The scenario layer above its first linear layer: C = [G, S_own, A] of rows of one scenario.

    Without the scenario attention only the sub-experts of G and S_own are needed; A reads all others.
    """

    def __init__(self, network: HiNet, later: Sequence[StackedLinear], sub_experts: int) -> None:
        self.sub_experts = ExpertStack(later)
        self.coefficients = _coefficients(network, sub_experts)  # [M, 3, E]
        # each sub-expert is in one part of C
        self.uses = [[(e, [(part, e)]) for part, e in one.nonzero().tolist()] for one in self.coefficients]

    def is_small(self, rows: int) -> bool:
        """Whether so many rows go through all experts at once: few of them, or any number on a GPU."""
        return rows * self.sub_experts.largest <= SMALL_PRODUCT or self.coefficients.device.type != "cpu"

    def batched(self, first: Tensor, weights: Tensor, scenario: int) -> Tensor:
        """Activations of the first layer [E, N, U] and the gates' weights [E, N] -> C [N, 3H]."""
        experts = self.sub_experts.all(first)  # [E, N, H]
        mixed = self.coefficients[scenario] @ (experts * weights.unsqueeze(2)).flatten(1)  # [3, N * H]
        return mixed.view(len(mixed), *experts.shape[1:]).transpose(0, 1).flatten(1)  # [N, 3H]

    def one_by_one(self, first: Callable[[int], Tensor], weights: Tensor, scenario: int) -> Tensor:
        """The same from the activations `first(expert)` [N, U] of each sub-expert."""
        scaled = weights * self.coefficients[scenario].sum(dim=0).unsqueeze(1)  # [E, N]
        return torch.cat(self.sub_experts.mix_one_by_one(first, scaled, self.uses[scenario]), dim=1)  # [N, 3H]


class FusedTaskLayer:
    """The task layer: for each task the mixture of the task's experts and the shared ones."""

    def __init__(self, control: CustomizedGateControl) -> None:
        self.experts = ExpertStack(control.experts.linear_layers())
        logits = control.gates.logits.weight.detach()  # [T, P + Q, 3H]
        self.gates, self.tasks, self.read, self.own = logits.flatten(0, 1), *logits.shape[:2], control.task_experts
        own = [(j * self.own + p, [(j, j * self.read + p)]) for j in range(self.tasks) for p in range(self.own)]
        start = (self.tasks - 1) * self.own  # expert start + q is the shared one that is number q of those a task reads
        shared = range(self.own, self.read)
        self.uses = own + [(start + q, [(j, j * self.read + q) for j in range(self.tasks)]) for q in shared]

    def batched(self, context: Tensor) -> Tensor:
        """C [N, 3H] -> the inputs of the towers [T, N, h]."""
        gates = (self.gates @ context.t()).view(self.tasks, self.read, len(context))
        weights = gates.softmax(dim=1).unsqueeze(3)  # [T, P + Q, N, 1]
        experts = self.experts.all(context.expand(self.tasks * self.own + self.read - self.own, -1, -1))
        specific, shared = experts.tensor_split([self.tasks * self.own])  # [T * P, N, h], [Q, N, h]
        specific = specific.view(self.tasks, self.own, *specific.shape[1:])  # [T, P, N, h]
        own_weights, shared_weights = weights.tensor_split([self.own], dim=1)  # [T, P, N, 1], [T, Q, N, 1]
        return (specific * own_weights).sum(dim=1) + (shared * shared_weights).sum(dim=1)  # [T, N, h]

    def one_by_one(self, context: Tensor) -> list[Tensor]:
        """C [N, 3H] -> the input [N, h] of each task's tower."""
        weights = softmax_by_mixture(self.gates @ context.t(), self.tasks)  # [T * (P + Q), N]
        return self.experts.mix_one_by_one(lambda _: context, weights, self.uses)


class FusedTowers:
    """The towers; of towers by scenario only those of the scenario that is requested."""

    def __init__(self, towers: StackedTowers, tasks: int) -> None:
        self.hidden, self.tasks = ExpertStack(towers.hidden.linear_layers()), tasks
        self.weight, self.bias = detached(towers.logits)  # [M * T, widest, h], [M * T, widest]
        stacked = [*self.hidden.stacked, (self.weight.transpose(1, 2).contiguous(), self.bias.unsqueeze(1))]
        self.starts = range(0, towers.scenarios * tasks, tasks)  # the first tower of each scenario
        self.by_scenario = [[(w[i : i + tasks], b[i : i + tasks]) for w, b in stacked] for i in self.starts]
        kept = towers.logits.kept
        self.kept = None if kept is None else kept[: len(kept) // towers.scenarios]

    def batched(self, x: Tensor, scenario: int) -> Tensor:
        """Inputs of the towers [T, N, h] -> logits [N, O]."""
        *hidden, (last_weight, last_bias) = self.by_scenario[self._index(scenario)]
        for weight, bias in hidden:
            x = torch.baddbmm(bias, x, weight).relu_()
        logits = torch.baddbmm(last_bias, x, last_weight)  # [T, N, widest]
        return self._outputs(logits.transpose(0, 1).flatten(1))

    def one_by_one(self, x: Sequence[Tensor], scenario: int) -> Tensor:
        """Inputs of the towers, T times [N, h] -> logits [N, O]."""
        towers = enumerate(x, start=self.starts[self._index(scenario)])
        logits = [F.linear(self.hidden.one(i, one), self.weight[i], self.bias[i]) for i, one in towers]  # [N, widest]
        return self._outputs(torch.cat(logits, dim=1))

    def _index(self, scenario: int) -> int:
        """The index of a scenario's towers: 0 for all where they are shared."""
        return scenario if len(self.starts) > 1 else 0

    def _outputs(self, logits: Tensor) -> Tensor:
        """Logits as wide as those of the widest task [N, T * widest] -> [N, O]."""
        return logits if self.kept is None else logits.index_select(1, self.kept)


def softmax_by_mixture(logits: Tensor, mixtures: int) -> Tensor:
    """Logits [W, N] of all gates -> weights [W, N], a softmax per mixture: in this order ten times as fast."""
    return torch.unflatten(logits, 0, (mixtures, -1)).softmax(dim=1).flatten(0, 1)


def _coefficients(network: HiNet, sub_experts: int) -> Tensor:
    """The factor of each sub-expert's weighted output in G, S_own and A, for rows of each scenario [M, 3, E]."""
    scenarios = network.scenarios
    mixtures = torch.zeros(scenarios, 3, 1 + scenarios)
    mixtures[:, 0, 0] = 1
    mixtures[:, 1, 1:] = torch.eye(scenarios)
    mixtures[:, 2, 1:] = network.attention()
    mixtures = mixtures if network.scenario_attention is not None else mixtures[:, :2]
    return mixtures.repeat_interleave(sub_experts, dim=2).to(network.embedding.weight.device)
