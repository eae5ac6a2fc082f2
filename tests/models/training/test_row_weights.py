"""Training on rows with weights: 1 for all is none at all, and a heavy row is learned from more."""

from typing import Any

import numpy as np
import pytest
import torch

from common.errors import TrainingError
from models.training.loop import fit
from tests.support.training import RECIPE, SCENARIOS, TASKS, opposite_rows, recipe_with, small_hinet, with_columns

pytestmark = pytest.mark.unit
ONE_EPOCH = recipe_with(epochs=1)


def test_weights_of_1_train_the_same_network_to_the_bit() -> None:
    """Weights, losses and metrics of all epochs are those of a training without weights."""
    ones, none = small_hinet(), small_hinet()
    train, valid = (with_columns(opposite_rows(300, s), weight=np.ones(300, np.float32)) for s in (0, 1))
    weighted = fit(ones, train, valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu")
    plain = fit(
        none,
        with_columns(train, weight=None),
        with_columns(valid, weight=None),
        RECIPE,
        scenarios=SCENARIOS,
        tasks=TASKS,
        device="cpu",
    )
    assert all(torch.equal(own, other) for own, other in zip(ones.parameters(), none.parameters(), strict=True))
    for own, other in zip(weighted.epochs, plain.epochs, strict=True):
        assert (own.train_loss, own.valid_loss, own.valid_mean) == (
            other.train_loss,
            other.valid_loss,
            other.valid_mean,
        )
        np.testing.assert_array_equal(own.valid_metrics, other.valid_metrics)


def test_the_epoch_is_chosen_by_the_weighted_metric() -> None:
    """Weights that leave rows of one kind only, which all have the same chance, take the validation mean to chance."""
    train, valid = opposite_rows(600, 0), opposite_rows(600, 1)
    first = (valid.categorical[:, 0] <= 2).astype(np.float32)
    arguments: dict[str, Any] = {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu"}
    plain = fit(small_hinet(), train, valid, RECIPE, **arguments)
    one_kind = fit(small_hinet(), train, with_columns(valid, weight=first), RECIPE, **arguments)
    assert one_kind.best.valid_mean < plain.best.valid_mean - 0.08


@pytest.mark.parametrize(("weight", "message"), [(0.0, "add up to 0"), (3e38, "add up to 3e")])
def test_weights_without_a_mean_are_refused(weight: float, message: str) -> None:
    """All 0, or beyond float32 together: the message says what counts."""
    rows = with_columns(opposite_rows(100, 0), weight=np.full(100, weight, np.float32))
    with pytest.raises(TrainingError, match=f"weights of the training set {message}"):
        fit(small_hinet(), rows, rows, ONE_EPOCH, scenarios=SCENARIOS, tasks=TASKS, device="cpu")
