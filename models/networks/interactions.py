"""Explicit interactions of features, before a network or added to its logits: perceptrons learn products slowly.

Letters as in models/networks/layers.py, with F embedded fields of width E at the front of x [B, D].
"""

import torch
from torch import Tensor, nn


class FactorizationMachine(nn.Module):
    """y_t = w_t x + c_t + sum_{i < j} r_tij <v_i, v_j>: every two fields, weighted by field and task.

    With r = 1, the initial value, it is the factorization machine of S. Rendle (ICDM 2010); r is that of J. Pan et al.,
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
        """[B, D] whose first F * E numbers are the fields -> [B, O]."""
        fields = torch.unflatten(x[:, : self.fields * self.width], 1, (self.fields, self.width))  # [B, F, E]
        products = torch.bmm(fields, fields.transpose(1, 2)).flatten(1)  # [B, F * F]
        linear: Tensor = self.linear(x)
        return linear + products.index_select(1, self.upper) @ self.pairs.t()  # [B, O]


class CrossLayer(nn.Module):
    """x + x * (V U x + c): every feature times what all features say of it; U [R, D] and V [D, R] of a low rank R.

    R. Wang et al., DCN V2, WWW 2021, equation 2 with the low rank of section 3.5.

    >>> CrossLayer(width=14, rank=3)(torch.zeros(5, 14)).shape
    torch.Size([5, 14])
    """

    def __init__(self, *, width: int, rank: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return torch.addcmul(x, x, self.up(self.down(x)))


def interaction(name: str, *, fields: int, width: int, inputs: int, outputs: int) -> nn.Module:
    """The interaction called `name`: fm (FactorizationMachine); raises ValueError on another name."""
    if name != "fm":
        raise ValueError(f"interactions names {name!r}: expected fm")
    return FactorizationMachine(fields=fields, width=width, inputs=inputs, outputs=outputs)
