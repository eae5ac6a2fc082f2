"""A row as its scenario sees it: the layers of STAR and the view of M3oE, which HiNet reads with `scenario_view`.

Letters as in models/networks/layers.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.networks.cpu_kernels import stacked_linear
from models.networks.layers import StackedExperts, StackedLinear, own_scenario


class StarLinear(nn.Module):
    """A linear layer per scenario around a shared one: (W_s * W) x + b_s + b, weights multiplied element by element.

    The source does not say how the two are initialised: here W as nn.Linear and W_s at 1 (b_s at 0), so that all
    scenarios start as the shared layer.

    >>> layer = StarLinear(scenarios=3, inputs=4, outputs=2)
    >>> layer(torch.zeros(5, 4)).shape, layer(torch.zeros(3, 5, 4)).shape
    (torch.Size([3, 5, 2]), torch.Size([3, 5, 2]))
    """

    def __init__(self, *, scenarios: int, inputs: int, outputs: int, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        self.shared = StackedLinear(stack=1, inputs=inputs, outputs=outputs)
        self.weight = nn.Parameter(torch.ones(scenarios, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(scenarios, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Rows [B, inputs] for all scenarios, or [M, B, inputs] of each -> [M, B, outputs]."""
        assert self.shared.bias is not None
        weight, bias = self.weight * self.shared.weight, self.bias + self.shared.bias
        return stacked_linear(x, weight, bias, relu=self.relu)  # [M, B, outputs]


class ScenarioView(nn.Module):
    """M3oE's view of a row: MLP(Star_s(x)) + MLP'(x), the part of the row's own scenario and the part of all.

    Z. Zhang et al., SIGIR 2024, arXiv 2404.18465. Star_s is a StarLinear without a ReLU; the perceptrons are normalised
    before theirs (both after the authors' code). `units`: width of Star_s, then of each layer of MLP; MLP' has one
    layer, as wide as the last. Raises ValueError if there are fewer than two.

    >>> view = ScenarioView(scenarios=3, inputs=4, units=(8, 6))
    >>> view(torch.zeros(5, 4), torch.zeros(5).int()).shape
    torch.Size([5, 6])
    """

    def __init__(self, *, scenarios: int, inputs: int, units: Sequence[int]) -> None:
        super().__init__()
        if len(units) < 2:
            raise ValueError(
                f"a view has two widths or more, of the scenario's layer and of the layers after it, not {units}"
            )
        self.star = StarLinear(scenarios=scenarios, inputs=inputs, outputs=units[0])
        self.after_star = StackedExperts(experts=1, inputs=units[0], units=units[1:], normalize=True)
        self.beside_star = StackedExperts(experts=1, inputs=inputs, units=units[-1:], normalize=True)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        """Rows [B, inputs] and their scenarios [B] -> [B, units[-1]]."""
        star = own_scenario(self.star(x), scenario)  # [B, units[0]]
        view: Tensor = (self.after_star(star) + self.beside_star(x)).squeeze(0)  # [B, units[-1]]
        return view
