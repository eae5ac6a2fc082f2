"""Checks of a training run: what is refused with a TrainingError, what is warned of; each message says what to do."""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import TrainingError
from features.encoding.tensors import Tensors
from features.schema import Task, TaskKind
from models.networks.cpu_kernels import ONEDNN_BFLOAT16
from models.training.loss import Target
from models.training.optim import Recipe

EXPLODED = 10  # times the loss of predicting 0.5 everywhere


def check_rows(train: Tensors, valid: Tensors, scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise TrainingError where there are no rows or no labels; warn of scenarios and tasks that cannot be learned."""
    for name, rows in (("training", train), ("validation", valid)):
        if not len(rows.scenario):
            raise TrainingError(f"the {name} set has no rows: look at join.split and its shares in params.yaml")
        _check_weights(name, rows)
    counts = np.bincount(train.scenario, minlength=len(scenarios))
    for scenario in (name for name, rows in zip(scenarios, counts, strict=True) if not rows):
        warnings.warn(
            f"scenario {scenario} has no training rows: its experts keep their initial weights; give it rows, or take "
            "it out of the data set's scenarios",
            stacklevel=3,
        )
    for task, labels in zip(tasks, np.asarray(train.labels).T, strict=True):
        _check_task(task, set(np.unique(labels[~np.isnan(labels)]).tolist()))


def _check_weights(name: str, rows: Tensors) -> None:
    """Raise TrainingError where the weights have no mean that float32 holds."""
    total = None if rows.weight is None else float(np.sum(rows.weight, dtype=np.float64))
    if total is not None and not 0 < total < float(np.finfo(np.float32).max):
        raise TrainingError(
            f"the weights of the {name} set add up to {total:g}: expected more than 0 and less than 3e38; correct the "
            "column of role weight: only the proportions of the weights count"
        )


def targets_of(tasks: Sequence[Task], targets: Mapping[str, Target]) -> list[Target | None] | None:
    """The scale of each task, None where it has none; None where no task has one.

    Raises ValueError where a regression task has none: its label would be read as a probability.
    """
    missing = [task.name for task in tasks if task.kind is TaskKind.REGRESSION and task.name not in targets]
    if missing:
        raise ValueError(f"regression tasks {missing} need the scale of their labels: Encoder.targets has it")
    return [targets.get(task.name) for task in tasks] if targets else None


def check_recipe(recipe: Recipe, device: torch.device) -> None:
    """Raise TrainingError on hyperparameters that exclude each other or this device; warn of a slow precision."""
    if recipe.capture and device.type != "cuda":
        raise TrainingError("train.capture captures steps of a GPU, but this run is on the CPU: set it to false")
    if recipe.capture and recipe.sparse_embeddings:
        raise TrainingError(
            "train.capture excludes train.sparse_embeddings, whose rows differ from step to step: change one"
        )
    if recipe.shard_embeddings and (recipe.sparse_embeddings or recipe.capture):
        other = "sparse_embeddings" if recipe.sparse_embeddings else "capture"
        raise TrainingError(
            f"train.shard_embeddings excludes train.{other}: torch's DTensor has dense gradients only, and its shares "
            "differ in size from step to step; set one of them to false"
        )
    if recipe.precision == "bfloat16" and device.type == "cpu" and not ONEDNN_BFLOAT16:
        warnings.warn(
            "train.precision is bfloat16, which this processor only emulates, slower than float32: set it to float32",
            stacklevel=3,
        )


def _check_task(task: str, classes: set[float]) -> None:
    if not classes:
        raise TrainingError(f"task {task} has no label in the training set: leave the task out or correct its labels")
    if len(classes) < 2:
        warnings.warn(
            f"task {task} has only labels {classes} in the training set: nothing to learn; leave the task out, or "
            "train on more days",
            stacklevel=4,
        )


def check_cells(valid_metrics: NDArray[np.float64], scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise TrainingError where no cell [M, T] has a metric, so that no epoch can be chosen; warn of those without."""
    undefined = [f"{scenarios[i]}/{tasks[j]}" for i, j in np.argwhere(np.isnan(valid_metrics))]
    if len(undefined) == valid_metrics.size:
        raise TrainingError(
            "no cell of the validation set has both classes: no epoch can be chosen; raise join.valid_share"
        )
    if undefined:
        text = f"cells with one class in the validation set: {', '.join(undefined)}; the mean AUC leaves them out"
        warnings.warn(text, stacklevel=3)


def check_finite(loss: float, name: str, learning_rate: float) -> float:
    """The loss; raises TrainingError where it is not finite."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"{name} is {loss}: lower train.learning_rate (now {learning_rate}), set train.clip_gradient_norm (1 is "
            "usual), or look for extreme values in the numeric inputs"
        )
    return loss


def warn_of_explosion(loss: float, number: int, cell_weights: Tensor) -> None:
    """Warn where an epoch's loss is far above that of predicting 0.5: the gradients explode, even if it is finite."""
    reference = math.log(2) * float(cell_weights.sum(dim=1).max())
    if loss > EXPLODED * reference:
        warnings.warn(
            f"the loss of epoch {number} is {loss:.3g}, {loss / reference:.0f} times that of predicting 0.5: "
            "the gradients explode; set train.clip_gradient_norm (1 is usual) or lower train.learning_rate",
            stacklevel=3,
        )
