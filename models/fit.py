"""Fits any network of this package to encoded rows: shuffled batches, Adam, averaged weights, early stopping.

Nothing here knows a file or params.yaml; the stage is models/train.py. The loop keeps the device busy: rows lie on it
as tensors, one permutation shuffles an epoch, the loss is summed where it is and fetched every LOOK_STEPS steps.
"""

import copy
import ctypes
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from errors import TrainingError
from features.encode import Tensors
from models.experts import FeatureEmbedding
from models.loss import weighted_loss
from models.metrics import mean_auc
from models.rows import Part, Rows

LOOK_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is fitted.

    `weight_decay` (and `table_weight_decay`, for the embedding tables) is L2 in the gradient, as Adam's own
    weight_decay: gradient + decay * weight, before Adam scales it. Not the decoupled decay of AdamW: a row that few
    batches touch shrinks at a pace that Adam sets, whatever its decay is called.
    `average` is the decay of the moving average of the weights, 0 for none. `unknown_share` of the ids are
    replaced by row 0 of their tables, so that the unknown row is trained. `patience` is how many epochs may pass
    without a better validation mean.
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


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the rows came to; `valid_auc` is [M, T] with NaN where a cell has one class."""

    number: int
    train_loss: float
    valid_loss: float
    valid_mean_auc: float
    valid_auc: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Every epoch, and the one whose weights the network holds now."""

    epochs: tuple[Epoch, ...]
    best: Epoch


class Average:
    """A copy of a network whose weights are the moving average of the network's, one update per step.

    average_t = sum_s decay^(t - s) * weights_s / sum_s decay^(t - s): the initial weights have no share in it.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0
        self._followed: list[Tensor] = list(network.parameters())
        self._mean: list[Tensor] = list(self.network.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        torch._foreach_lerp_(self._mean, self._followed, share)


def fit(
    network: nn.Module,
    train: Tensors,
    valid: Tensors,
    recipe: Recipe,
    *,
    scenarios: Sequence[str],
    tasks: Sequence[str],
    cell_weights: Tensor | None = None,
    device: str = "auto",
) -> Fitted:
    """Fit `network` in place; it ends on the (averaged) weights of the epoch with the best mean over the cells.

    `cell_weights` [M, T] are the lambdas of the loss, default 1. Call `repeatable` before the network is made for
    a run that can be repeated to the bit. Raises TrainingError where there is nothing to learn from or to choose
    by, and on a loss that is not finite; warns of scenarios and cells that cannot be learned or judged.
    """
    check(train, valid, scenarios, tasks)
    weights = torch.ones(len(scenarios), len(tasks)) if cell_weights is None else cell_weights
    fitting = _Fitting(network, weights, recipe, choose(device))
    learned, judged = Rows(train, fitting.device), Rows(valid, fitting.device)
    epochs: list[Epoch] = []
    best: Epoch | None = None
    with tqdm(total=recipe.epochs * learned.count, unit=" rows", unit_scale=True, mininterval=1) as progress:
        for number in range(1, recipe.epochs + 1):
            loss = fitting.pass_over(learned, number, progress)
            epochs.append(Epoch(number=number, train_loss=loss, **fitting.judge(judged)))
            if number == 1:
                _refuse_blind(epochs[0], scenarios, tasks)
            if best is None or epochs[-1].valid_mean_auc > best.valid_mean_auc:
                best, kept = epochs[-1], copy.deepcopy(fitting.average.network.state_dict())
            progress.write(f"epoch {number}: {_line(epochs[-1])}", file=sys.stderr)
            if number - best.number >= recipe.patience:
                break
    assert best is not None  # an epoch without a mean was refused
    network.load_state_dict(kept)
    return Fitted(epochs=tuple(epochs), best=best)


class _Fitting:
    """What a fit carries from step to step."""

    def __init__(self, network: nn.Module, cell_weights: Tensor, recipe: Recipe, device: torch.device) -> None:
        _keep_freed_memory()
        self.network, self.recipe, self.device = network.to(device), recipe, device
        self.cell_weights = cell_weights.to(device)
        self.average = Average(network, recipe.average)
        self.optimizer = adam(network, recipe)

    def pass_over(self, rows: Rows, number: int, progress: "tqdm[Any]") -> float:
        """One epoch; the mean loss of a batch. The order of the rows depends on the seed and `number` only."""
        self.network.train()
        order, hidden = (_generator(self.recipe.seed, number, device) for device in ("cpu", self.device))
        total = torch.zeros((), device=self.device)
        for steps, part in enumerate(rows.shuffled(self.recipe.batch_size, order), start=1):
            total += self.step(part.hide(self.recipe.unknown_share, hidden))
            progress.update(len(part.scenario))
            if steps % LOOK_STEPS == 0:
                progress.set_postfix(epoch=number, loss=f"{self._look(total, steps, number):.4f}", refresh=False)
        return self._look(total, steps, number)

    def step(self, part: Part) -> Tensor:
        """One step of Adam on these rows; the loss, left on the device."""
        logits = self.network(part.categorical, part.bags, part.numeric, part.scenario)
        loss = weighted_loss(logits, part.labels, part.scenario, self.cell_weights)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.average.update()
        return loss.detach()

    def _look(self, total: Tensor, steps: int, number: int) -> float:
        return self._finite(float(total) / steps, f"the loss of the first {steps} steps of epoch {number}")

    def _finite(self, loss: float, what: str) -> float:
        if not np.isfinite(loss):
            raise TrainingError(
                f"{what} is {loss}: lower train.learning_rate (now {self.recipe.learning_rate}) or look for wild "
                "values in the numeric inputs"
            )
        return loss

    @torch.inference_mode()
    def judge(self, rows: Rows) -> dict[str, Any]:
        """Loss and AUC of the averaged weights: the fields of an Epoch."""
        network = self.average.network.eval()
        for copied, followed in zip(network.buffers(), self.network.buffers(), strict=True):
            copied.copy_(followed)
        scored = [(network(*part[:4]), part.labels, part.scenario) for part in rows.in_order()]
        logits, labels, scenario = (torch.cat(column) for column in zip(*scored, strict=True))
        loss = float(weighted_loss(logits, labels, scenario, self.cell_weights))
        self._finite(loss, "the validation loss")
        observed, scores, scenarios = (column.cpu().numpy() for column in (labels, logits, scenario))
        mean, table = mean_auc(observed, scores, scenarios, len(self.cell_weights))
        return {"valid_loss": loss, "valid_mean_auc": mean, "valid_auc": table}


def adam(network: nn.Module, recipe: Recipe) -> torch.optim.Adam:
    """Adam with a weight decay for the embedding tables and one for the rest, in one fused kernel per group."""
    tables = [module.weight for module in network.modules() if isinstance(module, FeatureEmbedding)]
    known = {id(table) for table in tables}
    groups = [
        {"params": tables, "weight_decay": recipe.table_weight_decay},
        {"params": [p for p in network.parameters() if id(p) not in known], "weight_decay": recipe.weight_decay},
    ]
    return torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True)


def repeatable(seed: int) -> None:
    """Seed torch and choose deterministic kernels: the same run gives the same bits on one machine and thread count."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def choose(device: str) -> torch.device:
    """`cpu`, `cuda`, or the GPU where there is one (`auto`); raises TrainingError if CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("train.device is cuda, but torch sees no GPU: set it to auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check(train: Tensors, valid: Tensors, scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    """Raise TrainingError where there is nothing to learn from or to choose by; warn of what cannot be learned."""
    for name, rows in (("training", train), ("validation", valid)):
        if not len(rows.scenario):
            raise TrainingError(f"the {name} set has no rows: look at join.split and its shares in params.yaml")
    found = np.bincount(train.scenario, minlength=len(scenarios))
    for scenario in (name for name, rows in zip(scenarios, found, strict=True) if not rows):
        warnings.warn(f"scenario {scenario} has no training rows: its experts stay as they were drawn", stacklevel=3)
    for task, labels in zip(tasks, np.asarray(train.labels).T, strict=True):
        classes = set(np.unique(labels[~np.isnan(labels)]))
        if not classes:
            raise TrainingError(f"task {task} has no label in the training set: leave the task out or mend its labels")
        if len(classes) < 2:
            warnings.warn(f"task {task} has only labels {classes} in the training set: nothing to learn", stacklevel=3)


def _refuse_blind(epoch: Epoch, scenarios: Sequence[str], tasks: Sequence[str]) -> None:
    blind = [f"{scenarios[i]}/{tasks[j]}" for i, j in np.argwhere(np.isnan(epoch.valid_auc))]
    if len(blind) == epoch.valid_auc.size:
        raise TrainingError("no cell of the validation set has both classes: no epoch can be chosen; make it larger")
    if blind:
        text = f"cells with one class in the validation set: {', '.join(blind)}; the mean AUC leaves them out"
        warnings.warn(text, stacklevel=3)


def _generator(seed: int, epoch: int, device: str | torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed * 1_000_003 + epoch)


def _line(epoch: Epoch) -> str:
    return f"loss {epoch.train_loss:.4f}, validation loss {epoch.valid_loss:.4f}, mean AUC {epoch.valid_mean_auc:.4f}"


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: else each step's activations come as fresh pages (seen: a third of a step)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
