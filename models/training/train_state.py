"""What a fit carries from step to step, and how it becomes named tensors and is made of them again."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.networks.sparse_embeddings import LazyAverage, decay, make_lazy, named_rows, tables_of
from models.training.optim import Recipe, optimizers


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the rows came to; `valid_auc` is [M, T] with NaN where a cell has one class."""

    number: int
    train_loss: float
    valid_loss: float
    valid_mean_auc: float
    valid_auc: NDArray[np.float64]


class Average:
    """A copy of a network whose weights are the moving average of the network's, one update per step.

    average_t = sum_s decay^(t - s) * weights_s / sum_s decay^(t - s): the initial weights have no share in it. Of
    `lazy` tables the average is complete after `catch_up` only.
    """

    def __init__(self, network: nn.Module, decay: float, *, lazy: bool = False, captured: bool = False) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0
        pairs = list(zip(tables_of(network), tables_of(self.network), strict=True)) if lazy else []
        self.tables = [LazyAverage(table, mean, decay) for table, mean in pairs]
        by_rows = {id(table) for pair in pairs for table in pair}
        self._followed: list[Tensor] = [p for p in network.parameters() if id(p) not in by_rows]
        self._mean: list[Tensor] = [p for p in self.network.parameters() if id(p) not in by_rows]
        self.count = torch.zeros((), device=self._mean[0].device) if captured else None

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights, of lazy tables those that the gradient names."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        if self.count is None:
            torch._foreach_lerp_(self._mean, self._followed, share)
        else:
            self._update_on_device(self.count)
        for table in self.tables:
            table.update(named_rows(table.table), self.steps, share)

    def _update_on_device(self, count: Tensor) -> None:
        """The same with the steps counted on the device: a recorded step cannot read a number of Python's."""
        count += 1
        moves = torch._foreach_sub(self._followed, self._mean)
        torch._foreach_mul_(moves, (1 - self.decay) / (1 - self.decay**count))
        torch._foreach_add_(self._mean, moves)

    def prepare(self) -> None:
        """Before weights move: bring the means of the rows that are about to move up to now."""
        for table in self.tables:
            table.catch_up(named_rows(table.table), self.steps)

    def catch_up(self) -> None:
        """Bring every mean up to now."""
        for table in self.tables:
            table.catch_up(None, self.steps)


class State:
    """A network between two steps of its fit: weights, their average, Adam's moments, epochs so far, exact position."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.network, self.recipe, self.device = network.to(device), recipe, device
        if recipe.lazy_tables:
            make_lazy(network)
        self.average = Average(network, recipe.average, lazy=recipe.lazy_tables, captured=recipe.capture)
        self.optimizers = optimizers(network, recipe)
        self.epochs: list[Epoch] = []
        self.kept: dict[str, Tensor] = {}  # weights of the best epoch
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Stand before the first step of the next epoch."""
        self.steps, self.total = 0, torch.zeros((), device=self.device)  # steps of this epoch, the sum of their losses
        self.hidden = generator(self.recipe.seed, self.number, self.device)  # draws the ids that are hidden

    def move(self) -> None:
        """Move the weights by the gradients that they have, and their average with them."""
        for lazy in self.average.tables:
            decay(lazy.table, self.recipe.table_weight_decay)
        self.average.prepare()
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update()

    def end_epoch(self, epoch: Epoch) -> None:
        """Note what the epoch came to, and keep its averaged weights if they are the best so far."""
        self.epochs.append(epoch)
        if self.best is epoch:
            self.kept = copy.deepcopy(self.average.network.state_dict())
        self.begin_epoch()

    @property
    def number(self) -> int:
        """The epoch that is being run, from 1."""
        return len(self.epochs) + 1

    @property
    def best(self) -> Epoch:
        """The first of the epochs with the highest mean."""
        return max(self.epochs, key=lambda epoch: epoch.valid_mean_auc)

    @property
    def over(self) -> bool:
        """Whether all epochs are run, or patience is over."""
        done = len(self.epochs)
        return done >= self.recipe.epochs or (done > 0 and done - self.best.number >= self.recipe.patience)

    @property
    def finite(self) -> bool:
        """Whether every weight is a number: what is not is no state to go on from."""
        return all(bool(weights.isfinite().all()) for weights in self.network.parameters())

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors; `restore` of these goes on to the same bits."""
        moments = [optimizer.state_dict()["state"] for optimizer in self.optimizers]
        chance = {"hidden": self.hidden.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            chance["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            **_under("network", self.network.state_dict()),
            **_under("average", self.average.network.state_dict()),
            **_under("kept", self.kept),
            **{name: value for o, of in enumerate(moments) for name, value in _under(f"adam{o}", _flat(of)).items()},
            **_under("seen", {str(i): table.seen for i, table in enumerate(self.average.tables)}),
            **{f"epoch/{e.number}/{name}": value for e in self.epochs for name, value in _figures(e).items()},
            **_under("chance", chance),
            "position": torch.tensor([self.steps, self.average.steps]),
            "total": self.total,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Stand where `tensors` was called; the data position is `number` and `steps`."""
        self.network.load_state_dict(_of("network", tensors))
        self.average.network.load_state_dict(_of("average", tensors))
        for o, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(
                {**optimizer.state_dict(), "state": _moments(_of(f"adam{o}", tensors), optimizer)}
            )
        for i, table in enumerate(self.average.tables):
            table.seen.copy_(_of("seen", tensors)[str(i)])
        found = _by_number(_of("epoch", tensors))
        self.epochs = [_epoch(number, found[number]) for number in sorted(found)]
        self.kept = _of("kept", tensors)
        self.begin_epoch()
        self.steps, self.average.steps = tensors["position"].tolist()
        if self.average.count is not None:
            self.average.count.fill_(self.average.steps)
        self.total.copy_(tensors["total"])
        self._restore_chance(_of("chance", tensors))

    def _restore_chance(self, states: Mapping[str, Tensor]) -> None:
        self.hidden.set_state(states["hidden"])
        torch.set_rng_state(states["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.device)


def generator(seed: int, epoch: int, device: str | torch.device) -> torch.Generator:
    """The chance of an epoch: it depends on the seed and the epoch's number only."""
    return torch.Generator(device).manual_seed(seed * 1_000_003 + epoch)


def _flat(moments: Mapping[int, Mapping[str, Tensor | int]]) -> dict[str, Tensor]:
    return {f"{i}/{name}": torch.as_tensor(value) for i, of in moments.items() for name, value in of.items()}


def _moments(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """As the optimizer keeps them: SparseAdam counts its steps in a plain number."""
    found: dict[int, dict[str, Any]] = {i: dict(of) for i, of in _by_number(tensors).items()}
    for of in found.values() if isinstance(optimizer, torch.optim.SparseAdam) else ():
        of["step"] = int(of["step"])
    return found


def _figures(epoch: Epoch) -> dict[str, Tensor]:
    means = [epoch.train_loss, epoch.valid_loss, epoch.valid_mean_auc]
    return {"means": torch.tensor(means, dtype=torch.float64), "auc": torch.from_numpy(epoch.valid_auc)}


def _epoch(number: int, figures: Mapping[str, Tensor]) -> Epoch:
    train, valid, mean = figures["means"].tolist()
    auc = np.asarray(figures["auc"].numpy())
    return Epoch(number=number, train_loss=train, valid_loss=valid, valid_mean_auc=mean, valid_auc=auc)


def _under(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}/{key}": value for key, value in tensors.items()}


def _of(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def _by_number(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    grouped: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, field = key.split("/")
        grouped.setdefault(int(number), {})[field] = value
    return grouped
