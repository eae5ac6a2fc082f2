"""Explicit interactions of a row's features, to be added to the logits of a network: what perceptrons learn slowly.

Letters as in models/networks/layers.py, with F embedded fields of width E at the front of x [B, D].
"""

import torch
from torch import Tensor, nn

from models.networks.layers import StackedLinear


class FactorizationMachine(nn.Module):
    """y_t = w_t x + c_t + sum_{i < j} r_tij <v_i, v_j>: every two fields, weighted by field and task.

    With r = 1, where it starts, the factorization machine of S. Rendle (ICDM 2010); r is that of J. Pan et al.,
    Field-weighted Factorization Machines (WWW 2018), here per task.

    >>> FactorizationMachine(fields=3, width=4, inputs=14, outputs=2)(torch.zeros(5, 14)).shape
    torch.Size([5, 2])
    """

    upper: Tensor

    def __init__(self, *, fields: int, width: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fields, self.width = fields, width
        i, j = torch.triu_indices(fields, fields, offset=1)
        self.linear = nn.Linear(inputs, outputs)
        self.pairs = nn.Parameter(torch.ones(outputs, len(i)))
        self.register_buffer("upper", i * fields + j, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] whose first F * E numbers are the fields -> [B, T]."""
        fields = x[:, : self.fields * self.width].unflatten(1, (self.fields, self.width))  # [B, F, E]
        products = torch.bmm(fields, fields.transpose(1, 2)).flatten(1)  # [B, F * F]
        return self.linear(x) + products.index_select(1, self.upper) @ self.pairs.t()  # [B, T]


class Cross(nn.Module):
    """y = V z_L + c, z_0 = x, z_(l + 1) = x * (W_l z_l + b_l) + z_l: DCN-v2 (R. Wang et al., WWW 2021).

    >>> Cross(layers=2, inputs=14, outputs=2)(torch.zeros(5, 14)).shape
    torch.Size([5, 2])
    """

    def __init__(self, *, layers: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(StackedLinear(stack=1, inputs=inputs, outputs=inputs) for _ in range(layers))
        self.logits = StackedLinear(stack=1, inputs=inputs, outputs=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, T]."""
        z = x
        for layer in self.layers:
            z = x * layer(z).squeeze(0) + z  # [B, D]
        return self.logits(z).squeeze(0)  # [B, T]


def interaction(name: str, *, fields: int, width: int, inputs: int, outputs: int, cross_layers: int) -> nn.Module:
    """The interaction called `name`: fm (FactorizationMachine) or cross (Cross); raises ValueError on another."""
    if name == "fm":
        return FactorizationMachine(fields=fields, width=width, inputs=inputs, outputs=outputs)
    if name == "cross":
        return Cross(layers=cross_layers, inputs=inputs, outputs=outputs)
    raise ValueError(f"interactions names {name!r}: expected fm or cross")
