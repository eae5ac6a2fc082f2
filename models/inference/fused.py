"""The fused inference path: one user against many items, with the logits of HiNet's forward.

All sub-experts and the gates of the scenario layer read x. Its columns are those of the user and the request (the same
for every item) and those of the item (the same for every user). Their first layer is linear in x: its output is the sum
of the partial activations of either side. The user's are computed once per request. An item's can be cached as long as
the model and the item's features are the same: (1 + M) K (U + 1) floats, U the width of a sub-expert's first layer.
That is 5 KB with six scenarios, K = 3 and U = 64 (a million items: 5 GB), 18 KB at the authors' sizes (K = 5, U = 128).

    rank(user, cached items)     the remaining work per row: a sum, the sub-experts' later layers and all layers above
    rank_rows(user, rows)        the items' partial activations as well, where they are not cached

A request has one scenario: of towers by scenario only that scenario's are run, and without the scenario attention only
the sub-experts of G and of that scenario's S. A HiNet with a scenario view has another first layer, that of the view
(models/inference/fused_view.py). Networks without such a layer (peers, HiNet with interactions, neighbours or without
hierarchy) are scored by their forward.

Some numbers may be those of user and item together (`pairs`): their part is computed for each row of a request.

Letters as in models/networks/hinet.py, and E = (1 + M) * K sub-experts, N rows of a request, D' width of some columns,
P numbers of user and item.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from features.encoding.encoder import Batch
from models.inference.fused_layers import FusedScenarioLayer, FusedTaskLayer, FusedTowers, softmax_by_mixture
from models.inference.partial_activations import (
    ColumnIndices,
    PartialActivations,
    PartialFirstLayer,
    remaining_columns,
    with_pairs,
)
from models.networks.cpu_kernels import linear_relu
from models.networks.hinet import HiNet, SubExpertIntegration


class FusedHiNet:
    """A trained HiNet for ranking: the logits of its forward to 1e-5, for one user at a time and without gradients.

    `items` are the columns that depend on the item alone (see `item_columns`), `pairs` the numbers of user and item
    together (see `pair_numbers`). The weights are copied: after further training make a new one. Raises ValueError if
    the first layer cannot be split: without `hierarchy`, with `interactions`, a `scenario_view` or `neighbours`.
    """

    def __init__(self, network: HiNet, items: ColumnIndices, pairs: tuple[int, ...] = ()) -> None:
        integration = _checked(network)
        first, *later = integration.experts.linear_layers()
        gates, request = integration.gates.logits, remaining_columns(network.embedding, with_pairs(items, pairs))
        self.mixtures = integration.mixtures
        self.item_layer = PartialFirstLayer(network.embedding, items, first, gates, biased=False)
        of_pairs = ColumnIndices((), (), pairs)
        self.pair_layer = PartialFirstLayer(network.embedding, of_pairs, first, gates, biased=False)
        self.request_layer = PartialFirstLayer(network.embedding, request, first, gates, biased=True)
        self.scenario_layer = FusedScenarioLayer(network, later, integration.sub_experts)
        self.task_layer = FusedTaskLayer(network.control)
        self.towers = FusedTowers(network.towers, network.control.tasks)

    @property
    def bytes_per_item(self) -> int:
        """The size of one item's cached partial activations."""
        weight = self.item_layer.weight  # [E, U, D']
        return int(weight.element_size() * weight.shape[0] * (weight.shape[1] + 1))

    @torch.inference_mode()
    def user(self, batch: Batch) -> PartialActivations:
        """The partial activations, N = 1, of user, scenario and context, from the first of a request's rows."""
        return self.request_layer.first_row(batch)

    @torch.inference_mode()
    def items(self, batch: Batch) -> PartialActivations:
        """The partial activations of the rows' items, to be cached; the rows' other columns are not read."""
        hidden, gates = self.item_layer(batch)
        return PartialActivations(hidden.contiguous(), gates)

    @torch.inference_mode()
    def rank(
        self,
        user: PartialActivations,
        items: PartialActivations,
        scenario: int,
        index: Tensor | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Logits [N, O] of a user in a scenario (its number) for all of the items, or for those at `index` [N].

        `pairs` [N, P] are the numbers of user and item, scaled; where the network reads some they are needed.
        """
        gates = _add(items.gates, user.gates, index)  # [E, N]
        if pairs is not None:
            gates += self.pair_layer.gate_logits(pairs)
        weights = softmax_by_mixture(gates, self.mixtures)  # [E, N]
        if self.scenario_layer.is_small(weights.shape[1]):
            first = _add(items.hidden, user.hidden, index)  # [E, N, U]
            if pairs is not None:
                first += pairs @ self.pair_layer.weight.transpose(1, 2)
            first.relu_()
            context = self.scenario_layer.batched(first, weights, scenario)  # [N, 3H]
            return self.towers.batched(self.task_layer.batched(context), scenario)

        def first_of(expert: int) -> Tensor:
            one = slice(expert, expert + 1)
            first = _add(items.hidden[one], user.hidden[one], index)[0]  # [N, U]
            if pairs is not None:
                first.addmm_(pairs, self.pair_layer.weight[expert].t())
            return first.relu_()

        return self._one_by_one(first_of, weights, scenario)

    @torch.inference_mode()
    def rank_rows(self, user: PartialActivations, batch: Batch, scenario: int, pairs: Tensor | None = None) -> Tensor:
        """Logits [N, O] of a user in a scenario for the rows' items, whose partial activations are computed here."""
        if pairs is not None or self.scenario_layer.is_small(len(batch.scenario)):
            return self.rank(user, self.item_layer(batch), scenario, pairs=pairs)
        x = self.item_layer.embedding(batch)  # [N, D']
        weights = softmax_by_mixture(self.item_layer.gate_logits(x) + user.gates, self.mixtures)  # [E, N]

        def first_of(expert: int) -> Tensor:  # the user's partial activations are the bias of this product
            return linear_relu(x, self.item_layer.weight[expert], user.hidden[expert, 0])  # [N, U]

        return self._one_by_one(first_of, weights, scenario)

    def _one_by_one(self, first_of: Callable[[int], Tensor], weights: Tensor, scenario: int) -> Tensor:
        """Logits [N, O] from the first layer's activations [N, U] of each sub-expert and the gates' weights [E, N]."""
        context = self.scenario_layer.one_by_one(first_of, weights, scenario)  # [N, 3H]
        return self.towers.one_by_one(self.task_layer.one_by_one(context), scenario)


def _checked(network: HiNet) -> SubExpertIntegration:
    """The scenario layer, whose first layer reads all of x; raises ValueError if there is none."""
    if network.view is not None:
        raise ValueError("with a scenario_view no layer of the experts reads x itself: it has a path of its own")
    if network.embedding.cross is not None:
        raise ValueError("with a cross layer the first layer is not linear in the columns: score complete rows instead")
    return checked_integration(network)


def checked_integration(network: HiNet) -> SubExpertIntegration:
    """The scenario layer; raises ValueError where there is none, or something but the layers above reads x."""
    if network.integration is None:
        raise ValueError("a HiNet without hierarchy has no scenario layer to split: score complete rows instead")
    if terms := list(network.additions.interactions):
        raise ValueError(f"interactions {terms} read all of x: score complete rows instead")
    if network.embedding.neighbours is not None:
        raise ValueError("neighbours are no columns of a row: rank with a network without them")
    return network.integration


def _add(items: Tensor, user: Tensor, index: Tensor | None) -> Tensor:
    """The items' partial activations [E, N, ..], or those at `index`, plus the user's [E, 1, ..]; a new tensor."""
    return items + user if index is None else items.index_select(1, index).add_(user)
