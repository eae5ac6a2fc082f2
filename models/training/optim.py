"""How a network is fitted: the figures, and the optimizer that they make."""

from dataclasses import dataclass

import torch
from torch import nn

from models.networks.sparse_embeddings import tables_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is fitted.

    `weight_decay` (and `table_weight_decay`, for the embedding tables) is L2 in the gradient, as Adam's own
    weight_decay: gradient + decay * weight, before Adam scales it. Not the decoupled decay of AdamW: a row that few
    batches touch shrinks at a pace that Adam sets, whatever its decay is called.
    `average` is the decay of the moving average of the weights, 0 for none. `unknown_share` of the ids are
    replaced by row 0 of their tables, so that the unknown row is trained. `patience` is how many epochs may pass
    without a better validation mean. Gradients longer than `clip_gradient_norm` are cut to it; 0 leaves them.
    `precision` is that of the products in training, float32 or bfloat16 (torch.autocast): weights, their average and
    the loss are float32, and so is everything when an epoch is judged. With `capture` a step on a GPU is recorded once
    and replayed (models/training/cuda_graph.py). With `lazy_tables` a step moves only those rows of the tables that its batch names
    (models/networks/sparse_embeddings.py).
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
    precision: str = "float32"
    capture: bool = False


def optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam with a weight decay for the embedding tables and one for the rest, in one fused kernel per group.

    Lazy tables have an optimizer of their own, torch's SparseAdam, which knows no decay: models/networks/sparse_embeddings.py adds it.
    """
    tables = tables_of(network)
    known = {id(table) for table in tables}
    rest = {"params": [p for p in network.parameters() if id(p) not in known], "weight_decay": recipe.weight_decay}
    decayed = {"params": tables, "weight_decay": recipe.table_weight_decay}
    groups = [rest] if recipe.lazy_tables else [decayed, rest]
    dense = torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True, capturable=recipe.capture)
    return [dense, torch.optim.SparseAdam(tables, lr=recipe.learning_rate)] if recipe.lazy_tables else [dense]
