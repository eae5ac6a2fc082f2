"""The training loop of every network: shuffled batches, Adam, averaged weights, early stopping.

It reads no file and no params.yaml; the stage is models/train.py. Nothing in a step waits for the device: the rows are
on it as tensors, one permutation shuffles an epoch, and the sum of the losses is fetched every LOSS_CHECK_STEPS
steps, in a short epoch at least LOSS_CHECKS times (models/training/progress.py).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from features.encoding.tensors import Tensors
from features.schema import Task, mean_title, tasks_of
from models.evaluation.metrics import mean_of_cells
from models.networks.sparse_embeddings import clip_gradients
from models.training.batches import BatchLoader, Draws, TensorBatch
from models.training.checkpoint import Checkpoint
from models.training.cuda_graph import CapturedStep
from models.training.device import keep_freed_memory, resolve_device
from models.training.distributed import SINGLE_PROCESS, Group
from models.training.guards import (
    check_cells,
    check_finite,
    check_recipe,
    check_rows,
    targets_of,
    warn_of_explosion,
)
from models.training.loss import LossTerms, Target, relative, weighted_loss
from models.training.optim import Recipe
from models.training.position_bias import drop_positions, with_position_bias
from models.training.progress import line_of, progress_bar, steps_of_a_check
from models.training.rare_ids import RareIds, rare_ids
from models.training.sharded_tables import by_sharding, gather_tables, shard_tables, sharded_norm, shards_of
from models.training.train_state import EpochResult, LossPoint, TrainState, epoch_generator

Observer = Callable[[TrainState], None]  # called after each point of the loss and each epoch, in the main process


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The results of all epochs, and of the one whose weights the network has now.

    `trained` is the network, with the bias of positions where the rows have any. Tables that were divided are whole in
    the main process; the others keep their rows.
    """

    epochs: tuple[EpochResult, ...]
    best: EpochResult
    trained: nn.Module


def fit(
    network: nn.Module,
    train: Tensors,
    valid: Tensors,
    recipe: Recipe,
    *,
    scenarios: Sequence[str],
    tasks: Sequence[str | Task],
    terms: LossTerms | None = None,
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    group: Group = SINGLE_PROCESS,
    auxiliary: int = 0,
    observe: Observer | None = None,
) -> FitResult:
    """Train `network`, which ends on the averaged weights of the epoch with the best mean over the cells.

    The mean is over each cell's own metric: AUC of a binary task, accuracy of a multi-class one, hit rate at 1 of a
    choice, XAUC of a regression; weighted, where rows have weights. Call `make_deterministic` before the network is
    created to make a run repeatable to the bit. Raises TrainingError where there is nothing to learn from or no cell to
    choose an epoch by, and on a loss that is not finite; warns of what cannot be learned or measured.

    Args:
        network: any network of models/networks or models/peers.
        train: the training rows.
        valid: the validation rows.
        recipe: the hyperparameters.
        scenarios: the names of the M scenarios.
        tasks: the T tasks; a name alone is a binary one.
        terms: the weights of the cells in the loss, default 1, and the scales of regression tasks.
        device: cpu, cuda or auto.
        checkpoint: where the run saves its state and resumes from, to the same bits as without a stop.
        group: the processes that train together.
        auxiliary: how many of the last tasks are learned only: their validation labels are all unobserved.
        observe: what follows the run: it gets the state where the run starts or resumes, and whenever there is more.
    """
    declared = tasks_of(tasks)
    check_rows(train, valid, scenarios, [task.name for task in declared])
    check_recipe(recipe, resolve_device(device))
    terms = terms or LossTerms()
    trained = with_position_bias(network, train, scenarios=len(scenarios), tasks=declared)
    if recipe.shard_embeddings:
        shard_tables(trained, group, resolve_device(device))
    state = TrainState(trained, recipe, resolve_device(device))
    loop = TrainingLoop(
        state,
        terms.weights_of(len(scenarios), len(declared)).to(state.device),
        checkpoint,
        group,
        tasks=declared,
        choice_set=valid.choice_set,
        observe=observe,
        targets=terms.targets,
        rare_ids=rare_ids(train, recipe.rare_id_rows, state.device),
    )
    loop.resume()
    _run_epochs(loop, loop.loader(train), loop.loader(valid), scenarios, auxiliary)
    trained.load_state_dict(state.best_weights)
    gather_tables(trained, group)
    return FitResult(epochs=tuple(state.epochs), best=state.best, trained=trained)


class TrainingLoop:
    """The steps and epochs that advance a training state."""

    def __init__(
        self,
        state: TrainState,
        cell_weights: Tensor,
        checkpoint: Checkpoint | None,
        group: Group,
        *,
        tasks: Sequence[Task] | None = None,
        choice_set: NDArray[np.int64] | None = None,
        observe: Observer | None = None,
        targets: Mapping[str, Target] | None = None,
        rare_ids: RareIds | None = None,
    ) -> None:
        """Prepare the loop.

        Args:
            state: the state that it advances.
            cell_weights: [M, T], the lambdas of the loss.
            checkpoint: where the state is saved; None: nowhere.
            group: the processes that train together.
            tasks: the T tasks; default: all binary.
            choice_set: [N], of the validation rows; required where there is a choice task.
            observe: what follows the run.
            targets: the scales of the regression tasks, by name.
            rare_ids: masks rare ids; None: they are masked no more often than others.
        """
        keep_freed_memory()
        self.state, self.recipe, self.cell_weights = state, state.recipe, cell_weights
        self.checkpoint, self.group = checkpoint, group
        self.tasks = tasks or tasks_of(map(str, range(cell_weights.shape[1])))
        self.choice_set, self.observer, self.rare_ids = choice_set, observe, rare_ids
        self.outputs = [task.outputs for task in self.tasks]
        self.targets = targets_of(self.tasks, targets or {})
        self.parameters = list(state.network.parameters())
        self.replicated, self.sharded = by_sharding(state.network)
        first, end = group.cut(self.recipe.batch_size)
        full = end - first, (end - first) / self.recipe.batch_size
        self.run_step = CapturedStep(self.step, *full) if self.recipe.capture else self.step

    def loader(self, rows: Tensors) -> BatchLoader:
        """The batches of the rows, of each the share of this process."""
        return BatchLoader(rows, self.state.device, group=self.group, even=self.recipe.capture)

    def resume(self) -> None:
        """Restore the checkpoint, if there is one; raises TrainingError where the processes read different ones."""
        if self.checkpoint is not None:
            self.checkpoint.shards = shards_of(self.state.network, self.state.optimizers)
            saved = self.checkpoint.read()
            if saved is not None:
                self.state.restore(saved)
        self.group.check_same_step(self.state.average.steps, self.state.device)
        self.observe()

    def save(self) -> None:
        """Write the checkpoint, in the main process; a state that is not finite is not saved."""
        if self.checkpoint is None:
            return
        if self._agreed(self.state.is_finite) and (self.checkpoint.together or self.group.is_main):
            self.checkpoint.write(self.state.tensors())

    def _agreed(self, holds: bool) -> bool:
        """Whether something holds: in all processes, where all of them write the checkpoint."""
        together = self.checkpoint is not None and self.checkpoint.together
        return self.group.all(holds, self.state.device) if together else holds

    def observe(self) -> None:
        """Show the state to the observer, in the main process."""
        if self.observer is not None and self.group.is_main:
            self.observer(self.state)

    def run_epoch(self, train: BatchLoader, valid: BatchLoader, progress: "tqdm[Any]") -> EpochResult:
        """Train the rest of the state's epoch, evaluate, and return the epoch's result."""
        number = self.state.number
        loss = self.train_epoch(train, progress)
        warn_of_explosion(loss, number, self.cell_weights)
        self.state.end_epoch(EpochResult(number=number, train_loss=loss, **self.evaluate(valid)))
        self.observe()
        return self.state.epochs[-1]

    def train_epoch(self, rows: BatchLoader, progress: "tqdm[Any]") -> float:
        """The steps of an epoch; the mean loss of a batch. The order of rows depends on seed and epoch number only."""
        state, order = self.state, epoch_generator(self.recipe.seed, self.state.number, "cpu")
        check_steps = steps_of_a_check(rows.count, self.recipe.batch_size)
        state.network.train()
        for share in rows.shares(self.recipe.batch_size, order, skip=state.steps):
            steps, draws = state.average.steps, Draws(state.mask_generator, share)
            batch = share.rows.mask_ids(self.recipe.unknown_share, draws)
            if self.rare_ids is not None:
                batch = self.rare_ids.mask(batch, draws)
            batch = batch._replace(position=drop_positions(batch.position, draws))
            state.total_loss += self.run_step(batch, share.share)
            state.average.steps = steps + 1  # a replayed step runs no Python
            state.steps += 1
            progress.update(share.batch_rows)
            if state.steps % check_steps == 0:
                state.losses.append(LossPoint(state.average.steps, state.steps, self._mean_loss()))
                progress.set_postfix(epoch=state.number, loss=f"{state.losses[-1].mean:.4f}", refresh=False)
                self.observe()
            if self.checkpoint is not None and self._agreed(self.checkpoint.due()):
                self.save()
        return self._mean_loss()

    def step(self, batch: TensorBatch, share: float = 1.0) -> Tensor:
        """One step of Adam on this process's share of a batch, with the others; returns the loss, on the device."""
        with torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits = self.state.network(*batch[:4], *batch.position.unbind(1))
        loss = self.loss(logits.float(), batch.labels, batch.scenario, relative(batch.weight))
        loss = self.group.share(batch.weight, share) * loss
        self.state.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = self.group.sum_gradients(self.replicated, loss.detach(), share)
        if self.recipe.clip_gradient_norm:
            norm = sharded_norm(self.replicated, self.sharded, self.group) if self.sharded else None
            clip_gradients(self.parameters, self.recipe.clip_gradient_norm, norm)
        self.state.optimizer_step()
        return loss

    def loss(self, logits: Tensor, labels: Tensor, scenario: Tensor, weight: Tensor) -> Tensor:
        """The loss of rows [B] whose weights [B, W] have the mean 1."""
        return weighted_loss(
            logits, labels, scenario, self.cell_weights, self.outputs, targets=self.targets, row_weights=weight
        )

    def _mean_loss(self) -> float:
        steps = self.state.steps
        name = f"the loss of the first {steps} steps of epoch {self.state.number}"
        return check_finite(float(self.state.total_loss) / steps, name, self.recipe.learning_rate)

    @torch.inference_mode()
    def evaluate(self, rows: BatchLoader) -> dict[str, Any]:
        """Loss and metrics of the averaged weights on the rows: the `valid_` fields of an EpochResult."""
        self.state.average.catch_up()
        network = self.state.average.network.eval()
        for averaged, current in zip(network.buffers(), self.state.network.buffers(), strict=True):
            averaged.copy_(current)
        labels, scenario, weight = (rows.column(name) for name in ("labels", "scenario", "weight"))
        logits = labels.new_zeros(rows.count, sum(self.outputs))  # [N, O]
        for part in rows.parts():
            batch = rows.read(part if part.start < part.stop else slice(0, 1))  # of a sharded table all look up
            logits[part] = network(*batch[:4], *batch.position.unbind(1))[: part.stop - part.start]
        logits = self.group.sum(logits)
        loss = float(self.loss(logits, labels, scenario, relative(weight)))
        check_finite(loss, "the validation loss", self.recipe.learning_rate)
        observed, scores, scenarios = (column.cpu().numpy() for column in (labels, logits, scenario))
        mean, metrics = mean_of_cells(
            observed,
            scores,
            scenarios,
            self.tasks,
            scenarios=len(self.cell_weights),
            choice_set=self.choice_set,
            weight=weight[:, 0].cpu().numpy() if weight.shape[1] else None,
        )
        return {"valid_loss": loss, "valid_mean": mean, "valid_metrics": metrics}


def _run_epochs(
    loop: TrainingLoop, train: BatchLoader, valid: BatchLoader, scenarios: Sequence[str], auxiliary: int
) -> None:
    """Train until the state is finished; after each epoch a line on stderr, in the main process."""
    names = [task.name for task in loop.tasks]
    with progress_bar(loop.state, train.count, silent=not loop.group.is_main) as progress:
        while not loop.state.finished:
            epoch = loop.run_epoch(train, valid, progress)
            if epoch.number == 1:
                measured = len(names) - auxiliary
                check_cells(epoch.valid_metrics[:, :measured], scenarios, names[:measured])
            loop.save()
            if loop.group.is_main:
                progress.write(f"epoch {epoch.number}: {line_of(epoch, mean_title(loop.tasks))}", file=sys.stderr)
