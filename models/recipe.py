"""How a network is fitted: the figures, and the optimizer that they make."""

from dataclasses import dataclass

import torch
from torch import nn

from models.tables import tables_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is fitted.

    `weight_decay` (and `table_weight_decay`, for the embedding tables) is L2 in the gradient, as Adam's own
    weight_decay: gradient + decay * weight, before Adam scales it. Not the decoupled decay of AdamW: a row that few
    batches touch shrinks at a pace that Adam sets, whatever its decay is called.
    `average` is the decay of the moving average of the weights, 0 for none. `unknown_share` of the ids are
    replaced by row 0 of their tables, so that the unknown row is trained. `patience` is how many epochs may pass
    without a better validation mean. Gradients longer than `clip_gradient_norm` are cut to it; 0 leaves them.
    With `lazy_tables` a step moves only those rows of the tables that its batch names (models/tables.py).
    """

    seed: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    table_weight_decay: float
    weight_decay: float
    average: float
    unknown_share: float
    clip_gradient_norm: float = 0.0
    lazy_tables: bool = False


def optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam with a weight decay for the embedding tables and one for the rest, in one fused kernel per group.

    Lazy tables have an optimizer of their own, torch's SparseAdam, which knows no decay: models/tables.py adds it.
    """
    tables = tables_of(network)
    known = {id(table) for table in tables}
    rest = {"params": [p for p in network.parameters() if id(p) not in known], "weight_decay": recipe.weight_decay}
    if recipe.lazy_tables:
        return [
            torch.optim.Adam([rest], lr=recipe.learning_rate, fused=True),
            torch.optim.SparseAdam(tables, lr=recipe.learning_rate),
        ]
    decayed = {"params": tables, "weight_decay": recipe.table_weight_decay}
    return [torch.optim.Adam([decayed, rest], lr=recipe.learning_rate, fused=True)]
