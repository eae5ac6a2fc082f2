"""What a training shows of its progress on stderr: a bar, its loss, and a line after each epoch."""

from typing import Any

from tqdm import tqdm

from models.training.train_state import EpochResult, TrainState

LOSS_CHECK_STEPS, LOSS_CHECKS = 50, 20


def progress_bar(state: TrainState, rows: int, *, silent: bool) -> "tqdm[Any]":
    """The bar of a run over so many rows an epoch, from where its state is."""
    done = min(len(state.epochs) * rows + state.steps * state.recipe.batch_size, state.number * rows)
    total = state.recipe.epochs * rows
    disabled = {"disable": True} if silent else {}  # not False, which would override TQDM_DISABLE
    return tqdm(total=total, initial=done, unit=" rows", unit_scale=True, mininterval=1, **disabled)


def line_of(epoch: EpochResult, mean: str) -> str:
    """What is printed of an epoch; `mean` names the mean of the cells."""
    return f"loss {epoch.train_loss:.4f}, validation loss {epoch.valid_loss:.4f}, {mean} {epoch.valid_mean:.4f}"


def steps_of_a_check(rows: int, batch_size: int) -> int:
    """The steps from one check of the loss to the next: they depend on the data only, so that a run repeats them."""
    return min(LOSS_CHECK_STEPS, max(1, -(-rows // batch_size) // LOSS_CHECKS))
