"""models/training/final_pass.py: a last pass over training and validation rows."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training.checkpoint import Checkpoint
from models.training.final_pass import ChainedColumn, concatenate, fit_final
from models.training.position_bias import WithPositionBias
from tests.support.training import (
    RECIPE,
    SCENARIOS,
    TASKS,
    fitted,
    logits_of,
    opposite_rows,
    recipe_with,
    small_hinet,
    with_columns,
)

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("one_thread")]
FINAL = recipe_with(final_learning_rate=0.003)
RUN = {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu"}


def test_without_a_learning_rate_there_is_no_pass() -> None:
    """The network keeps the weights of the epoch that the validation rows chose."""
    result = fitted(small_hinet(), RECIPE)
    before = copy.deepcopy(result.trained.state_dict())
    fit_final(result, opposite_rows(1000, 0), opposite_rows(800, 1), RECIPE, **RUN)
    assert all(torch.equal(before[name], weights) for name, weights in result.trained.state_dict().items())


def test_the_pass_learns_from_the_validation_rows() -> None:
    """Labels that only validation rows have are learned: an item that is never liked in training, always there."""
    valid = opposite_rows(800, 1)
    labels = valid.labels.copy()
    labels[:, 1] = valid.categorical[:, 0] == 4  # liked with 0.2 in training
    valid = with_columns(valid, labels=labels)
    fast = recipe_with(final_learning_rate=0.01, batch_size=16)
    result = fitted(small_hinet(), fast)
    before = _mean_like(logits_of(result.trained, valid), valid.categorical[:, 0])
    fit_final(result, opposite_rows(1000, 0), valid, fast, **RUN)
    after = _mean_like(logits_of(result.trained, valid), valid.categorical[:, 0])
    assert after > before + 0.5


def _mean_like(logits: np.ndarray, item: np.ndarray) -> float:
    return float(logits[item == 4, 1].mean())


def test_the_pass_goes_on_with_the_bias_of_positions() -> None:
    """Rows with positions: the bias that was learned is kept, and not begun anew."""
    position = np.random.default_rng(5).integers(0, 10, 1000).astype(np.int32)
    train, valid = (with_columns(opposite_rows(1000, seed), position=position) for seed in (0, 1))
    result = fitted(small_hinet(), FINAL)
    result = dataclasses.replace(result, trained=WithPositionBias(result.trained, scenarios=2, outputs=2))
    fit_final(result, train, valid, FINAL, **RUN)
    assert result.trained.bias.shared.abs().sum() > 0


def test_a_killed_pass_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """From its checkpoint the pass ends on the weights of one without a stop."""

    class KilledError(Exception):
        pass

    class Stopping(Checkpoint):
        def write(self, tensors: object) -> None:
            super().write(tensors)  # type: ignore[arg-type]
            raise KilledError

    train, valid = opposite_rows(1000, 0), opposite_rows(800, 1)
    whole = fitted(small_hinet(), FINAL)
    fit_final(whole, train, valid, FINAL, **RUN)
    stopped = fitted(small_hinet(), FINAL)
    with pytest.raises(KilledError):
        fit_final(stopped, train, valid, FINAL, **RUN, checkpoint=Stopping(tmp_path, "pass", 0))
    again = fitted(small_hinet(), FINAL)
    fit_final(again, train, valid, FINAL, **RUN, checkpoint=Checkpoint(tmp_path, "pass", 0))
    expected = whole.trained.state_dict()
    assert all(torch.equal(expected[name], weights) for name, weights in again.trained.state_dict().items())


def test_rows_of_both_are_read_without_codes_of_choice_sets() -> None:
    """Every column has the training rows, then the validation rows; codes that mean something in one are left out."""
    first, second = (with_columns(opposite_rows(n, n), choice_set=np.arange(n)) for n in (5, 3))
    both = concatenate(first, second)
    assert both.choice_set is None
    assert both.weight is None
    np.testing.assert_array_equal(np.asarray(both.labels), np.concatenate([first.labels, second.labels]))


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 15), st.integers(0, 15))
def test_a_chained_column_is_the_concatenation(first: int, second: int, start: int, stop: int) -> None:
    """Slices, other indices and the whole array are those of the two arrays in one."""
    parts = np.arange(2 * first).reshape(first, 2), np.arange(2 * second).reshape(second, 2)
    chained, expected = ChainedColumn(*parts), np.concatenate(parts)
    np.testing.assert_array_equal(chained[start:stop], expected[start:stop])
    np.testing.assert_array_equal(chained[:, None], expected[:, None])
    assert (len(chained), chained.shape, chained.nbytes) == (len(expected), expected.shape, expected.nbytes)
