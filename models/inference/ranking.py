"""One user against many items: HiNet's first layer is linear in x, so each side's share of it is computed once.

All sub-experts and the gates of the scenario layer read x. Its columns are those of the user and the request (the same
for every item) and those of the item (the same for every user); what the layer makes of x is the sum of what it makes
of either. The user's share is computed once per request. An item's can be kept for as long as the model and the item's
features are the same: (1 + M) K (U + 1) floats, U the width of a sub-expert's first layer. That is 5 KB with six
scenarios, K = 3 and U = 64 (a million items: 5 GB), 18 KB at the authors' sizes (K = 5, U = 128).

    rank(user, kept item shares)    what is left per row: a sum, then the sub-experts' later layers and all above
    rank_rows(user, rows)           the items' share on top, where it is not kept

A request asks for one scenario: of towers by scenario only its own run, and without the scenario attention only the
sub-experts of G and of its own S. With the attention all S_m are needed: A reads them.

Letters as in models/networks/hinet.py, and E = (1 + M) * K sub-experts.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from features.encoding.encoder import Batch
from models.inference.fused import Together
from models.inference.partial_activations import Columns, Part, Share, detached, others
from models.networks.cpu_kernels import SMALL_PRODUCT as FEW
from models.networks.cpu_kernels import linear_relu as rectified
from models.networks.hinet import CustomizedGateControl, HiNet, SubExpertIntegration
from models.networks.layers import StackedExperts, StackedLinear

Layers = list[tuple[Tensor, Tensor]]  # of one perceptron: weight [outputs, inputs], bias [outputs]
Plan = list[tuple[int, list[tuple[int, int]]]]  # experts to run, and which sums each enters with which row of weights


class Sharing:
    """A trained HiNet that ranks: the logits of its forward to 1e-5, for one user at a time and without gradients.

    `items` are the columns that depend on the item alone (see `item_columns`). The first layer's weights are copied,
    split by columns, when this is made: a network that learns on needs a new one. Raises ValueError where there is no
    such layer: without `hierarchy`, with `interactions`, a `scenario_view` or `neighbours`.
    """

    def __init__(self, network: HiNet, items: Columns) -> None:
        integration, experts = _checked(network)
        self.network, (first, *later) = network, _linear_layers(experts)
        self.sub_experts, self.task_experts = _by_expert(later), _by_expert(_linear_layers(network.control.experts))
        self.towers = _by_expert([*_linear_layers(network.towers.hidden), network.towers.logits])
        self.largest = max((layer.weight[0].numel() for layer in later), default=0)
        gates, request = integration.gates.logits, others(network.embedding, items)
        self.of_item = Part(network.embedding, items, first, gates, biased=False)
        self.of_request = Part(network.embedding, request, first, gates, biased=True)
        self.coefficients = _coefficients(network, integration.sub_experts)  # [M, 3, E]
        self.plans = [_of_scenario(coefficients) for coefficients in self.coefficients]
        self.plan_of_tasks = _of_tasks(network.control)
        self.together = Together(network, experts, self.coefficients)
        self.always_together = experts.normalize or self.coefficients.is_cuda

    @property
    def bytes_per_item(self) -> int:
        """What the kept share of one item takes."""
        experts, width, _ = self.of_item.weight.shape
        return self.of_item.weight.element_size() * experts * (width + 1)

    @torch.inference_mode()
    def user(self, batch: Batch) -> Share:
        """The share, N = 1, of user, scenario and context, and of the biases: from the first of a request's rows."""
        return self.of_request.of_first(batch)

    @torch.inference_mode()
    def items(self, batch: Batch) -> Share:
        """The shares of the rows' items, to be kept; what the rows say of users does not matter."""
        hidden, gates = self.of_item(batch)
        return Share(hidden.contiguous(), gates)

    @torch.inference_mode()
    def rank(self, user: Share, items: Share, scenario: int, picked: Tensor | None = None) -> Tensor:
        """Logits [N, O] of a user in a scenario (its number) for items, or for those at the places `picked` [N]."""
        weights = _weights(_sum(items.gates, user.gates, picked), 1 + self.network.scenarios)  # [E, N]
        if self._few(weights.shape[1]):
            first = _sum(items.hidden, user.hidden, picked)  # [E, N, U]
            return self._outputs(self.together.logits(first, weights, scenario))

        def first_of(expert: int) -> Tensor:
            one = slice(expert, expert + 1)
            return _sum(items.hidden[one], user.hidden[one], picked)[0].relu_()  # [N, U]

        return self._each(first_of, weights, scenario)

    @torch.inference_mode()
    def rank_rows(self, user: Share, batch: Batch, scenario: int) -> Tensor:
        """Logits [N, O] of a user in a scenario for the items of the rows, whose shares are computed here."""
        if self._few(len(batch.scenario)):
            return self.rank(user, self.of_item(batch), scenario)
        x = self.of_item.embedding(batch)  # [N, D of items]
        weights = _weights(self.of_item.gate(x) + user.gates, 1 + self.network.scenarios)  # [E, N]

        def first_of(expert: int) -> Tensor:  # to this product the user's share is a bias
            return rectified(x, self.of_item.weight[expert], user.hidden[expert, 0])  # [N, U]

        return self._each(first_of, weights, scenario)

    def _few(self, rows: int) -> bool:
        """Whether all experts go through a layer together: few rows, a GPU, or a normalization in between."""
        return self.always_together or rows * self.largest <= FEW

    def _each(self, first: Callable[[int], Tensor], weights: Tensor, scenario: int) -> Tensor:
        """Logits [N, O], one expert after the other, from what the first layer makes of it; others are left out."""

        def sub_expert(expert: int) -> Tensor:
            return _perceptron(first(expert), self.sub_experts[expert])

        scaled = weights * self.coefficients[scenario].sum(dim=0).unsqueeze(1)  # [E, N]: each is in one part of C
        context = torch.cat(_mixed(sub_expert, scaled, self.plans[scenario]), dim=1)  # [N, 3H]
        tasks = self._control(context)
        start = scenario * len(tasks) if self.network.towers.scenarios > 1 else 0
        logits = [_tower(x, self.towers[start + task]) for task, x in enumerate(tasks)]
        return self._outputs(torch.cat(logits, dim=1))

    def _control(self, context: Tensor) -> list[Tensor]:
        """C [N, 3H] -> what each task reads, T times [N, h], one expert after the other."""
        weights = _weights(self.together.gates @ context.t(), self.network.control.tasks)  # [T * (P + Q), N]
        return _mixed(lambda expert: _perceptron(context, self.task_experts[expert]), weights, self.plan_of_tasks)

    def _outputs(self, logits: Tensor) -> Tensor:
        """Logits of a run of towers, all as wide as the widest [N, T * widest] -> those that are there [N, O]."""
        towers = self.network.towers
        kept = towers.logits.kept
        return logits if kept is None else logits.index_select(1, kept[: len(kept) // towers.scenarios])


def _weights(gates: Tensor, mixtures: int) -> Tensor:
    """Logits [W, N] of all gates -> weights [W, N], a softmax per mixture: this way round in a tenth of the time."""
    return gates.unflatten(0, (mixtures, -1)).softmax(dim=1).flatten(0, 1)


def _mixed(run: Callable[[int], Tensor], weights: Tensor, plan: Plan) -> list[Tensor]:
    """Sums [N, H] of weighted experts, one expert after the other while its rows are in the cache."""
    parts: dict[int, Tensor] = {}
    for expert, uses in plan:
        y = run(expert)  # [N, H]
        for part, row in uses:
            weight = weights[row].unsqueeze(1)  # [N, 1]
            parts[part] = parts[part].addcmul_(y, weight) if part in parts else y * weight
    return [parts[part] for part in sorted(parts)]


def _perceptron(x: Tensor, layers: Layers) -> Tensor:
    for weight, bias in layers:
        x = rectified(x, weight, bias)
    return x


def _tower(x: Tensor, layers: Layers) -> Tensor:
    """What a task reads [N, h] -> its logits, as many as the widest task has."""
    *hidden, last = layers
    return F.linear(_perceptron(x, hidden), *last)


def _checked(network: HiNet) -> tuple[SubExpertIntegration, StackedExperts]:
    """The scenario layer and its sub-experts, whose first layer reads all of x; raises ValueError if there is none."""
    if network.integration is None:
        raise ValueError("a HiNet without hierarchy has no scenario layer to share: score plain rows instead")
    if len(network.interactions):
        raise ValueError(f"interactions {list(network.interactions)} read all of x: score plain rows instead")
    if network.view is not None:
        raise ValueError("with a scenario_view no layer of the experts reads x itself: score plain rows instead")
    if network.embedding.neighbours is not None:
        raise ValueError("neighbours are no columns of a row: rank with a network without them")
    return network.integration, network.integration.experts


def _coefficients(network: HiNet, sub_experts: int) -> Tensor:
    """What each sub-expert's weighted output counts in G, S_own and A, for rows of each scenario [M, 3, E]."""
    scenarios = network.scenarios
    mixtures = torch.zeros(scenarios, 3, 1 + scenarios)
    mixtures[:, 0, 0] = 1
    mixtures[:, 1, 1:] = torch.eye(scenarios)
    mixtures[:, 2, 1:] = network.attention()
    mixtures = mixtures if network.scenario_attention is not None else mixtures[:, :2]
    return mixtures.repeat_interleave(sub_experts, dim=2).to(network.embedding.weight.device)


def _of_scenario(coefficients: Tensor) -> Plan:
    """The sub-experts that count in G, S_own and A [3, E], each in one of them."""
    return [(expert, [(part, expert)]) for part, expert in coefficients.nonzero().tolist()]


def _of_tasks(control: CustomizedGateControl) -> Plan:
    """The experts of each task, which it alone reads, and the shared ones, which all read."""
    tasks, own = control.tasks, control.task_experts
    read = control.gates.logits.weight.shape[1]  # P + Q
    plan: Plan = [(j * own + p, [(j, j * read + p)]) for j in range(tasks) for p in range(own)]
    return plan + [(tasks * own + q - own, [(j, j * read + q) for j in range(tasks)]) for q in range(own, read)]


def _linear_layers(experts: StackedExperts) -> list[StackedLinear]:
    return [layer for layer in experts.layers if isinstance(layer, StackedLinear)]


def _by_expert(layers: Iterable[StackedLinear]) -> list[Layers]:
    """Stacked layers as the layers of each expert: weight [outputs, inputs] and bias [outputs]."""
    return [list(expert) for expert in zip(*(zip(*detached(layer), strict=True) for layer in layers), strict=True)]


def _sum(share: Tensor, once: Tensor, picked: Tensor | None) -> Tensor:
    """The items' share [E, N, ..], or of those picked, and the user's [E, 1, ..]; a new tensor."""
    return share + once if picked is None else share.index_select(1, picked).add_(once)
