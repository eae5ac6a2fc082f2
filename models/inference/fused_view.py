"""The fused inference path of a HiNet with a scenario view: one user against many items, the logits of its forward.

The first layers that read the features are those of the view: the star of each scenario and the layer beside it
(models/networks/scenario_view.py), S outputs in all, weights W [S, D] of a scenario. They are split by the columns of
user and item. Before them there may be a cross layer, x' = x * (1 + c + V h) with h = U x (R numbers). It is not linear
in x, but for one user it is linear in h:

    W x' = [W_u (x_u * (1 + c_u))] + [(W_u * x_u) V_u] h  +  W_i (x_i * (1 + c_i + V_i h)),   h = U_u x_u + U_i x_i

What stands in brackets is computed once per request, x_i and U_i x_i once per item: D_i + R floats, which are cached. A
request runs the star of its own scenario alone. All layers above read the view, which is narrow. Numbers of user and
item together count as the item's there, but are not cached.

Letters as in models/inference/fused.py, with D_u and D_i columns of user (and request) and of the item in x, P of both.
"""

import torch
from torch import Tensor

from features.encoding.encoder import Batch
from models.inference.fused import FusedHiNet, checked_integration
from models.inference.fused_layers import FusedScenarioLayer, FusedTaskLayer, FusedTowers, softmax_by_mixture
from models.inference.partial_activations import (
    ColumnEmbedding,
    ColumnIndices,
    PartialActivations,
    first_row_of,
    positions_in_x,
    remaining_columns,
    with_pairs,
)
from models.networks.hinet import HiNet
from models.networks.scenario_view import ScenarioView


class FusedViewHiNet:
    """A trained HiNet with a scenario view for ranking; see models.inference.fused.FusedHiNet, whose methods it has.

    Raises ValueError without a view, without `hierarchy`, and with `interactions` or `neighbours`.
    """

    def __init__(self, network: HiNet, items: ColumnIndices, pairs: tuple[int, ...] = ()) -> None:
        if network.view is None:
            raise ValueError("a HiNet without scenario_view has no view to split: it has a path of its own")
        integration, both = checked_integration(network), with_pairs(items, pairs)
        request = remaining_columns(network.embedding, both)
        self.view_layers = ViewLayers(network.view)
        self.gates, self.mixtures = integration.gates.logits.weight.detach().flatten(0, 1), integration.mixtures
        self.scenario_layer = FusedScenarioLayer(network, integration.experts.linear_layers(), integration.sub_experts)
        self.task_layer = FusedTaskLayer(network.control)
        self.towers = FusedTowers(network.towers, network.control.tasks)
        self.embed_item, self.embed_request = (ColumnEmbedding(network.embedding, side) for side in (items, request))
        self.cached, self.pairs, self.item, self.request = (
            CrossSide(network, columns, self.view_layers)
            for columns in (items, ColumnIndices((), (), pairs), both, request)
        )

    @property
    def bytes_per_item(self) -> int:
        """The size of what is cached of an item."""
        return self.cached.one.element_size() * (len(self.cached.one) + len(self.cached.down))

    @torch.inference_mode()
    def user(self, batch: Batch) -> PartialActivations:
        """What is computed once per request, from the first of its rows: [1, S, 1 + R], and U_u x_u [R, 1].

        Of the first, number 0 is the constant and the others are the weights of h.
        """
        scenario = int(batch.scenario[0])
        x = self.embed_request(first_row_of(batch))[0]  # [D_u]
        of_h = (self.request.weight[scenario] * x) @ self.request.one_and_up  # [S, 1 + R]
        of_h[:, 0] += self.view_layers.bias[scenario]
        return PartialActivations(of_h.unsqueeze(0), (self.request.down @ x).unsqueeze(1))

    @torch.inference_mode()
    def items(self, batch: Batch) -> PartialActivations:
        """What is cached of the rows' items, x_i [1, N, D_i] and U_i x_i [R, N]; other columns are not read."""
        x = self.embed_item(batch)  # [N, D_i]
        return PartialActivations(x.unsqueeze(0), self.cached.down @ x.t())

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
        x, own = items.hidden[0], items.gates
        if index is not None:
            x, own = x.index_select(0, index), own.index_select(1, index)
        h = (own + user.gates).t()  # [N, R]
        if pairs is not None:
            x, h = torch.cat([x, pairs], dim=1), h.addmm(pairs, self.pairs.down.t())
        crossed = torch.addmm(self.item.one, h, self.item.up.t()).mul_(x)  # [N, D_i]
        constant, of_h = user.hidden[0, :, 0], user.hidden[0, :, 1:]
        outputs = torch.addmm(constant, crossed, self.item.weight[scenario].t()).addmm_(h, of_h.t())  # [N, S]
        return self._logits(self.view_layers(outputs), scenario)

    @torch.inference_mode()
    def rank_rows(self, user: PartialActivations, batch: Batch, scenario: int, pairs: Tensor | None = None) -> Tensor:
        """Logits [N, O] of a user in a scenario for the items of the rows, of which nothing is cached."""
        return self.rank(user, self.items(batch), scenario, pairs=pairs)

    def _logits(self, view: Tensor, scenario: int) -> Tensor:
        """Logits [N, O] from the view [N, D']."""
        weights = softmax_by_mixture(self.gates @ view.t(), self.mixtures)  # [E, N]
        if self.scenario_layer.is_small(len(view)):
            context = self.scenario_layer.batched(view.expand(len(weights), -1, -1), weights, scenario)  # [N, 3H]
            return self.towers.batched(self.task_layer.batched(context), scenario)
        context = self.scenario_layer.one_by_one(lambda _: view, weights, scenario)  # [N, 3H]
        return self.towers.one_by_one(self.task_layer.one_by_one(context), scenario)


class CrossSide:
    """What the columns of one side of x contribute to the cross layer and to the view: their weights.

    U [R, D'], V [D', R], 1 + c [D'] and W [M, S, D'] for D' of the columns of x. Without a cross layer R is 0.
    """

    def __init__(self, network: HiNet, columns: ColumnIndices, view: "ViewLayers") -> None:
        own = positions_in_x(network.embedding, columns)
        down, up, one = _cross(network)
        self.down, self.up, self.one = down[:, own], up[own], one[own]
        self.one_and_up = torch.cat([self.one.unsqueeze(1), self.up], dim=1)  # [D', 1 + R]
        self.weight = view.weight[:, :, own]


class ViewLayers:
    """A ScenarioView whose first layers are one product for each scenario, and what comes after them."""

    def __init__(self, view: ScenarioView) -> None:
        star, beside = view.star, view.beside_star.linear_layers()[0]
        assert star.shared.bias is not None
        assert beside.bias is not None
        of_star = star.weight * star.shared.weight, star.bias + star.shared.bias  # [M, U, D], [M, U]
        of_beside = beside.weight.expand(len(star.weight), -1, -1), beside.bias.expand(len(star.weight), -1)
        self.weight, self.bias = (torch.cat(pair, dim=1).detach() for pair in zip(of_star, of_beside, strict=True))
        self.after_star, self.norm, self.width = view.after_star, view.beside_star.layers[1], star.weight.shape[1]

    def __call__(self, outputs: Tensor) -> Tensor:
        """Outputs of star and layer beside it [N, S] -> the view [N, D']."""
        star, beside = outputs.unsqueeze(0).tensor_split([self.width], dim=2)  # [1, N, U], [1, N, D']
        view: Tensor = (self.after_star(star) + self.norm(beside)).squeeze(0)
        return view


def fused_hinet(network: HiNet, items: ColumnIndices, pairs: tuple[int, ...] = ()) -> FusedHiNet | FusedViewHiNet:
    """The fused inference path of a trained HiNet; raises ValueError where there is none."""
    return (FusedHiNet if network.view is None else FusedViewHiNet)(network, items, pairs)


def _cross(network: HiNet) -> tuple[Tensor, Tensor, Tensor]:
    """U [R, D], V [D, R] and 1 + c [D] of the cross layer; without one R is 0 and the last is 1."""
    cross, device, width = network.embedding.cross, network.embedding.weight.device, network.embedding.width
    if cross is None:
        return (
            torch.empty(0, width, device=device),
            torch.empty(width, 0, device=device),
            torch.ones(width, device=device),
        )
    return cross.down.weight.detach(), cross.up.weight.detach(), (1 + cross.up.bias).detach()
