"""The hyperparameters of a training run, and its optimizers."""

from dataclasses import dataclass

import torch
from torch import nn

from models.networks.sparse_embeddings import embeddings_of


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters of a training run.

    Weight decay is L2 in the gradient, as Adam's own weight_decay: gradient + decay * weight, before Adam scales it.
    The decoupled decay of AdamW is not used: rows of an embedding that few batches contain would shrink at the same
    rate as all others.

    Args:
        seed: of the order of the rows and of the ids that are masked.
        epochs: the largest number of passes over the training rows.
        patience: epochs without a better validation mean after which the run stops.
        batch_size: rows of a step.
        learning_rate: of Adam.
        embedding_weight_decay: L2 decay of the embeddings.
        weight_decay: L2 decay of all other weights.
        average: decay of the moving average of the weights; 0 for none.
        unknown_share: share of the ids that are replaced by 0, so that the unknown row of each embedding is trained.
        rare_id_rows: an id of n training rows is replaced by 0 in a share of this / (this + n) of the steps; 0 for none
            (models/training/rare_ids.py).
        clip_gradient_norm: largest norm of the gradients; 0 for none.
        final_learning_rate: of Adam in a last pass over training and validation rows (models/training/final_pass.py); 0
            for none.
        sparse_embeddings: a step updates only the rows of the embeddings that its batch contains
            (models/networks/sparse_embeddings.py).
        shard_embeddings: of several processes each holds some of the rows of the embeddings
            (models/training/sharded_tables.py).
        precision: of the matrix products in training, float32 or bfloat16 (torch.autocast). Weights, their average, the
            loss and the whole evaluation of an epoch are float32.
        capture: a step on a GPU is captured as a CUDA graph and replayed (models/training/cuda_graph.py).
    """

    seed: int
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    embedding_weight_decay: float
    weight_decay: float
    average: float
    unknown_share: float
    rare_id_rows: float = 0.0
    clip_gradient_norm: float = 0.0
    final_learning_rate: float = 0.0
    sparse_embeddings: bool = False
    shard_embeddings: bool = False
    precision: str = "float32"
    capture: bool = False


def optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam with one weight decay for the embeddings and one for the rest, in one fused kernel per group.

    Sparse embeddings have their own optimizer, torch's SparseAdam, which has no decay: the training state adds it to
    the gradient.
    """
    embeddings = embeddings_of(network)
    known = {id(weight) for weight in embeddings}
    rest = {"params": [p for p in network.parameters() if id(p) not in known], "weight_decay": recipe.weight_decay}
    decayed = {"params": embeddings, "weight_decay": recipe.embedding_weight_decay}
    groups = [rest] if recipe.sparse_embeddings else [decayed, rest]
    dense = torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True, capturable=recipe.capture)
    if not recipe.sparse_embeddings:
        return [dense]
    return [dense, torch.optim.SparseAdam(embeddings, lr=recipe.learning_rate)]
