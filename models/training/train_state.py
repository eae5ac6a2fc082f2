"""The state of a training run between two steps, and its form as named tensors for a checkpoint."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.sparse_embeddings import add_decay, use_sparse_gradients
from models.training.optim import Recipe, optimizers
from models.training.weight_average import WeightAverage


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """The losses and validation metrics of one epoch.

    `valid_metrics` [M, T] is the metric of each cell (AUC, accuracy or hit rate), NaN where it is undefined.
    """

    number: int
    train_loss: float
    valid_loss: float
    valid_mean: float
    valid_metrics: NDArray[np.float64]


class LossPoint(NamedTuple):
    """The mean loss of the first `batches` batches of an epoch, after `step` steps of the run."""

    step: int
    batches: int
    mean: float


class TrainState:
    """Network, average of its weights, optimizers, losses and epochs so far, and the position in the epoch."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.network, self.recipe, self.device = network.to(device), recipe, device
        if recipe.sparse_embeddings:
            use_sparse_gradients(network)
        self.average = WeightAverage(network, recipe.average, sparse=recipe.sparse_embeddings, captured=recipe.capture)
        self.optimizers = optimizers(network, recipe)
        self.epochs: list[EpochResult] = []
        self.losses: list[LossPoint] = []
        self.best_weights: dict[str, Tensor] = {}
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Reset the position to the first step of the next epoch."""
        self.steps, self.total_loss = 0, torch.zeros((), device=self.device)
        self.mask_generator = epoch_generator(self.recipe.seed, self.number, self.device)  # for the ids that are masked

    def optimizer_step(self) -> None:
        """Update the weights by their gradients, and the average by the weights."""
        for sparse in self.average.embeddings:
            add_decay(sparse.embedding, self.recipe.embedding_weight_decay)
        self.average.before_step()
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()

    def end_epoch(self, epoch: EpochResult) -> None:
        """Record the result of the epoch, and keep its averaged weights if it is the best so far."""
        self.epochs.append(epoch)
        if self.best is epoch:
            self.best_weights = copy.deepcopy(self.average.network.state_dict())
        self.begin_epoch()

    @property
    def number(self) -> int:
        """The number of the current epoch, from 1."""
        return len(self.epochs) + 1

    @property
    def best(self) -> EpochResult:
        """The first of the epochs with the highest validation mean."""
        return max(self.epochs, key=lambda epoch: epoch.valid_mean)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or `patience` epochs brought no better mean."""
        done = len(self.epochs)
        return done >= self.recipe.epochs or (done > 0 and done - self.best.number >= self.recipe.patience)

    @property
    def is_finite(self) -> bool:
        """Whether every weight is finite; a run cannot resume from weights that are not."""
        return all(bool(weights.isfinite().all()) for weights in self.network.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as named tensors; after `restore` of them the run goes on to the same bits."""
        states = [optimizer.state_dict()["state"] for optimizer in self.optimizers]
        random = {"mask": self.mask_generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            **_prefixed("network", self.network.state_dict()),
            **_prefixed("average", self.average.network.state_dict()),
            **_prefixed("best", self.best_weights),
            **{
                name: value
                for o, state in enumerate(states)
                for name, value in _prefixed(f"adam{o}", _flat(state)).items()
            },
            **_prefixed("sparse", {str(i): average.steps for i, average in enumerate(self.average.embeddings)}),
            **{f"epoch/{e.number}/{name}": value for e in self.epochs for name, value in _epoch_tensors(e).items()},
            **_prefixed("random", random),
            "position": torch.tensor([self.steps, self.average.steps]),
            "total_loss": self.total_loss,
            "losses": torch.tensor(self.losses, dtype=torch.float64).reshape(-1, len(LossPoint._fields)),
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to the state of which `tensors` are; `number` and `steps` are the position in the data."""
        self.network.load_state_dict(_with_prefix("network", tensors))
        self.average.network.load_state_dict(_with_prefix("average", tensors))
        for o, optimizer in enumerate(self.optimizers):
            state = _optimizer_state(_with_prefix(f"adam{o}", tensors), optimizer)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        for i, average in enumerate(self.average.embeddings):
            average.steps.copy_(_with_prefix("sparse", tensors)[str(i)])
        epochs = _by_number(_with_prefix("epoch", tensors))
        self.epochs = [_epoch_result(number, epochs[number]) for number in sorted(epochs)]
        self.best_weights = _with_prefix("best", tensors)
        self.begin_epoch()
        self.steps, self.average.steps = tensors["position"].tolist()
        if self.average.count is not None:
            self.average.count.fill_(self.average.steps)
        self.total_loss.copy_(tensors["total_loss"])
        self.losses = [LossPoint(int(step), int(batches), mean) for step, batches, mean in tensors["losses"].tolist()]
        self._restore_random(_with_prefix("random", tensors))

    def _restore_random(self, states: Mapping[str, Tensor]) -> None:
        self.mask_generator.set_state(states["mask"])
        torch.set_rng_state(states["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.device)


def epoch_generator(seed: int, epoch: int, device: str | torch.device) -> torch.Generator:
    """The random generator of an epoch: it depends on the seed and the epoch's number only."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + epoch)


def _flat(state: Mapping[int, Mapping[str, Tensor | int]]) -> dict[str, Tensor]:
    return {f"{i}/{name}": torch.as_tensor(value) for i, values in state.items() for name, value in values.items()}


def _optimizer_state(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """The state of each parameter as the optimizer keeps it: SparseAdam counts its steps in a plain number."""
    state: dict[int, dict[str, Any]] = {i: dict(values) for i, values in _by_number(tensors).items()}
    for values in state.values() if isinstance(optimizer, torch.optim.SparseAdam) else ():
        values["step"] = int(values["step"])
    return state


def _epoch_tensors(epoch: EpochResult) -> dict[str, Tensor]:
    means = [epoch.train_loss, epoch.valid_loss, epoch.valid_mean]
    return {"means": torch.tensor(means, dtype=torch.float64), "metrics": torch.from_numpy(epoch.valid_metrics)}


def _epoch_result(number: int, tensors: Mapping[str, Tensor]) -> EpochResult:
    train, valid, mean = tensors["means"].tolist()
    metrics = np.asarray(tensors["metrics"].numpy())
    return EpochResult(number=number, train_loss=train, valid_loss=valid, valid_mean=mean, valid_metrics=metrics)


def _prefixed(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for key, value in tensors.items()}


def _with_prefix(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _by_number(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    grouped: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, field = key.split("/")
        grouped.setdefault(int(number), {})[field] = value
    return grouped
