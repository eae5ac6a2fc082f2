"""What a training run refuses, and what it warns of; each sentence says what to do."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.errors import TrainingError
from features.encoding.tensors import Tensors
from models.networks.cpu_kernels import ONEDNN_BFLOAT16
from models.training.optim import Recipe

WILD = 10  # times the loss of a coin: above it the weights have run away


def check(train: Tensors, valid: Tensors, scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise TrainingError where there is nothing to learn from or to choose by; warn of what cannot be learned."""
    for name, rows in (("training", train), ("validation", valid)):
        if not len(rows.scenario):
            raise TrainingError(f"the {name} set has no rows: look at join.split and its shares in params.yaml")
    found = np.bincount(train.scenario, minlength=len(scenarios))
    for scenario in (name for name, rows in zip(scenarios, found, strict=True) if not rows):
        warnings.warn(
            f"scenario {scenario} has no training rows: its experts stay as they were drawn; give it rows, or take it "
            "out of the data set's scenarios",
            stacklevel=3,
        )
    for task, labels in zip(tasks, np.asarray(train.labels).T, strict=True):
        _check_task(task, set(np.unique(labels[~np.isnan(labels)]).tolist()))


def check_recipe(recipe: Recipe, device: torch.device, processes: int) -> None:
    """Raise TrainingError on figures that do not go together, or not on this device."""
    if recipe.lazy_tables and processes > 1:
        raise TrainingError("train.lazy_tables needs train.processes 1: sparse gradients are not added up; change one")
    if recipe.capture and device.type != "cuda":
        raise TrainingError("train.capture records steps of a GPU, but this run is on the CPU: set it to false")
    if recipe.capture and recipe.lazy_tables:
        raise TrainingError("train.capture cannot record lazy tables, whose rows differ from step to step: change one")
    if recipe.precision == "bfloat16" and device.type == "cpu" and not ONEDNN_BFLOAT16:
        warnings.warn(
            "train.precision is bfloat16, which this processor only imitates, slower than float32: set it to float32",
            stacklevel=3,
        )


def _check_task(task: str, classes: set[float]) -> None:
    if not classes:
        raise TrainingError(f"task {task} has no label in the training set: leave the task out or mend its labels")
    if len(classes) < 2:
        warnings.warn(
            f"task {task} has only labels {classes} in the training set: nothing to learn; leave the task out, or "
            "train on more days",
            stacklevel=4,
        )


def refuse_blind(valid_auc: NDArray[np.float64], scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise TrainingError where no cell [M, T] has an AUC, so that no epoch can be chosen; warn of cells without."""
    blind = [f"{scenarios[i]}/{tasks[j]}" for i, j in np.argwhere(np.isnan(valid_auc))]
    if len(blind) == valid_auc.size:
        raise TrainingError(
            "no cell of the validation set has both classes: no epoch can be chosen; raise join.valid_share"
        )
    if blind:
        text = f"cells with one class in the validation set: {', '.join(blind)}; the mean AUC leaves them out"
        warnings.warn(text, stacklevel=3)


def finite(loss: float, what: str, learning_rate: float) -> float:
    """The loss, or TrainingError where it is not a number to go on with."""
    if not math.isfinite(loss):
        raise TrainingError(
            f"{what} is {loss}: lower train.learning_rate (now {learning_rate}), set train.clip_gradient_norm (1 is "
            "usual), or look for wild values in the numeric inputs"
        )
    return loss


def warn_of_runaway(loss: float, number: int, cell_weights: Tensor) -> None:
    """Warn where an epoch's loss is far above that of a coin: the gradients explode, even if the loss is finite."""
    coin = math.log(2) * float(cell_weights.sum(dim=1).max())
    if loss > WILD * coin:
        warnings.warn(
            f"the loss of epoch {number} is {loss:.3g}, {loss / coin:.0f} times that of a coin: the gradients explode; "
            "set train.clip_gradient_norm (1 is usual) or lower train.learning_rate",
            stacklevel=3,
        )
