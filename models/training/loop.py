"""Fits any network of this package to encoded rows: shuffled batches, Adam, averaged weights, early stopping.

Nothing here knows a file or params.yaml; the stage is models/train.py. The loop keeps the device busy: rows lie on it
as tensors, one permutation shuffles an epoch, the loss is summed where it is and fetched every LOOK_STEPS steps.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from common.errors import TrainingError
from features.encoding.tensors import Tensors
from features.schema import Task, mean_title, tasks_of
from models.evaluation.metrics import mean_of_cells
from models.networks.sparse_embeddings import clip
from models.training.batches import Part, Rows
from models.training.checkpoint import Checkpoint
from models.training.cuda_graph import CapturedStep
from models.training.distributed import Group
from models.training.guards import check, check_recipe, finite, refuse_blind, warn_of_runaway
from models.training.loss import weighted_loss
from models.training.optim import Recipe
from models.training.train_state import Epoch, State, generator

LOOK_STEPS = 50
ALONE = Group()


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Every epoch, and the one whose weights the network holds now."""

    epochs: tuple[Epoch, ...]
    best: Epoch


def fit(
    network: nn.Module,
    train: Tensors,
    valid: Tensors,
    recipe: Recipe,
    *,
    scenarios: Sequence[str],
    tasks: Sequence[str | Task],
    cell_weights: Tensor | None = None,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    group: Group = ALONE,
    auxiliary: int = 0,
) -> Fitted:
    """Fit `network` in place; it ends on the (averaged) weights of the epoch with the best mean over the cells.

    The mean is of each cell's own metric: AUC of a binary task (a name alone is one), accuracy of a multi-class one,
    hit rate at 1 of a choice. `cell_weights` [M, T] are the lambdas of the loss, default 1. Call `repeatable` before
    the network is made for a run that can be repeated to the bit. With a `checkpoint` the run goes on from there, to
    the same bits as if it had never stopped. So many of the last tasks are `auxiliary`: learned beside the others, of
    valid rows without labels, and nobody is told. Raises TrainingError where there is nothing to learn from or to
    choose by, and on a loss that is not finite; warns of scenarios and cells that cannot be learned or judged.
    """
    declared = tasks_of(tasks)
    names = [task.name for task in declared]
    check(train, valid, scenarios, names)
    check_recipe(recipe, choose(device), group.size)
    weights = torch.ones(len(scenarios), len(names)) if cell_weights is None else cell_weights
    state = State(network, recipe, choose(device))
    fitting = Fitting(state, weights.to(state.device), checkpoint, group, tasks=declared, sets=valid.choice_set)
    learned, judged = Rows(train, state.device), Rows(valid, state.device)
    fitting.resume()
    with _progress(state, learned.count, silent=not group.first) as progress:
        while not state.over:
            epoch = fitting.run_epoch(learned, judged, progress)
            if epoch.number == 1:
                judging = len(names) - auxiliary
                refuse_blind(epoch.valid_auc[:, :judging], scenarios, names[:judging])
            fitting.save()
            if group.first:
                progress.write(f"epoch {epoch.number}: {_line(epoch, mean_title(declared))}", file=sys.stderr)
    network.load_state_dict(state.kept)
    return Fitted(epochs=tuple(state.epochs), best=state.best)


class Fitting:
    """The loop: what moves a state on, and what it has to know for that."""

    def __init__(
        self,
        state: State,
        cell_weights: Tensor,
        checkpoint: Checkpoint | None,
        group: Group,
        *,
        tasks: Sequence[Task] | None = None,
        sets: NDArray[np.int64] | None = None,
    ) -> None:
        _keep_freed_memory()
        self.state, self.recipe, self.cell_weights = state, state.recipe, cell_weights
        self.checkpoint, self.group = checkpoint, group
        self.tasks, self.sets = tasks or tasks_of(map(str, range(cell_weights.shape[1]))), sets  # default: binary
        self.outputs = [task.outputs for task in self.tasks]
        self.parameters = list(state.network.parameters())
        self.take = CapturedStep(self.step, self.recipe.batch_size) if self.recipe.capture else self.step

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one; raises TrainingError where the processes found different ones."""
        found = None if self.checkpoint is None else self.checkpoint.read()
        if found is not None:
            self.state.restore(found)
        self.group.agree(self.state.average.steps, self.state.device)

    def save(self) -> None:
        """Write the checkpoint, in the first process; a state that is not finite has to end, not to be kept."""
        if self.checkpoint is not None and self.group.first and self.state.finite:
            self.checkpoint.write(self.state.tensors())

    def run_epoch(self, learned: Rows, judged: Rows, progress: "tqdm[Any]") -> Epoch:
        """The rest of the epoch that the state stands in, and what it came to."""
        number = self.state.number
        loss = self.pass_over(learned, progress)
        warn_of_runaway(loss, number, self.cell_weights)
        self.state.end_epoch(Epoch(number=number, train_loss=loss, **self.judge(judged)))
        return self.state.epochs[-1]

    def pass_over(self, rows: Rows, progress: "tqdm[Any]") -> float:
        """Its steps; the mean loss of a batch. The order of the rows depends on the seed and the epoch only."""
        state, order = self.state, generator(self.recipe.seed, self.state.number, "cpu")
        state.network.train()
        for part in rows.shuffled(self.recipe.batch_size, order, skip=state.steps):
            taken = state.average.steps
            state.total += self.take(part.hide(self.recipe.unknown_share, state.hidden))
            state.average.steps = taken + 1  # a step that is replayed runs nothing of Python's
            state.steps += 1
            progress.update(len(part.scenario))
            if state.steps % LOOK_STEPS == 0:
                progress.set_postfix(epoch=state.number, loss=f"{self._look():.4f}", refresh=False)
            if self.checkpoint is not None and self.checkpoint.due():
                self.save()
        return self._look()

    def step(self, whole: Part) -> Tensor:
        """One step of Adam on these rows, shared with the other processes; the loss, left on the device."""
        part, share = self.group.share(whole)
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.state.network(part.categorical, part.bags, part.numeric, part.scenario)
        loss = weighted_loss(logits.float(), part.labels, part.scenario, self.cell_weights, self.outputs) * share
        self.state.network.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.group.add_gradients(self.parameters, loss.detach())
        if self.recipe.clip_gradient_norm:
            clip(self.parameters, self.recipe.clip_gradient_norm)
        self.state.move()
        return loss

    def _look(self) -> float:
        steps, what = self.state.steps, "the loss of the first {} steps of epoch {}"
        loss = float(self.state.total) / steps
        return finite(loss, what.format(steps, self.state.number), self.recipe.learning_rate)

    @torch.inference_mode()
    def judge(self, rows: Rows) -> dict[str, Any]:
        """Loss and metrics of the averaged weights: the fields of an Epoch."""
        self.state.average.catch_up()
        network = self.state.average.network.eval()
        for copied, followed in zip(network.buffers(), self.state.network.buffers(), strict=True):
            copied.copy_(followed)
        scored = [
            (self._score(number, part), part.labels, part.scenario) for number, part in enumerate(rows.in_order())
        ]
        logits, labels, scenario = (torch.cat(column) for column in zip(*scored, strict=True))
        logits = self.group.add(logits)
        loss = float(weighted_loss(logits, labels, scenario, self.cell_weights, self.outputs))
        finite(loss, "the validation loss", self.recipe.learning_rate)
        observed, scores, scenarios = (column.cpu().numpy() for column in (labels, logits, scenario))
        mean, table = mean_of_cells(
            observed, scores, scenarios, self.tasks, scenarios=len(self.cell_weights), choice_set=self.sets
        )
        return {"valid_loss": loss, "valid_mean_auc": mean, "valid_auc": table}

    def _score(self, number: int, part: Part) -> Tensor:
        """Logits, or zeros for the parts that are another process's."""
        if number % self.group.size != self.group.rank:
            return part.labels.new_zeros(len(part.labels), sum(self.outputs))
        logits: Tensor = self.state.average.network(*part[:4])
        return logits


def repeatable(seed: int) -> None:
    """Seed torch and choose deterministic kernels: the same run gives the same bits on one machine and thread count."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextlib.contextmanager
def denormals_flushed() -> Iterator[None]:
    """Let what is smaller than the smallest normal number be 0: to some processors each such number is a trap.

    Threads that torch starts from now on do the same for good: enter before its first work on a large tensor.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def choose(device: str) -> torch.device:
    """`cpu`, `cuda`, or the GPU where there is one (`auto`); raises TrainingError if CUDA is asked for and absent."""
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("train.device is cuda, but torch sees no GPU: set it to auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _progress(state: State, rows: int, *, silent: bool) -> "tqdm[Any]":
    done = min(len(state.epochs) * rows + state.steps * state.recipe.batch_size, state.number * rows)
    total = state.recipe.epochs * rows
    quiet = {"disable": True} if silent else {}  # not False: TQDM_DISABLE is to be heard
    return tqdm(total=total, initial=done, unit=" rows", unit_scale=True, mininterval=1, **quiet)


def _line(epoch: Epoch, mean: str) -> str:
    return f"loss {epoch.train_loss:.4f}, validation loss {epoch.valid_loss:.4f}, {mean} {epoch.valid_mean_auc:.4f}"


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: else each step's activations come as fresh pages (seen: a third of a step)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
