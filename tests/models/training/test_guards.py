"""What training refuses and what it warns of: each message says what to do, and nothing half-written is left."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from common.errors import TrainingError
from models.train import train
from models.training.loop import fit
from tests.support.training import (
    RECIPE,
    SCENARIOS,
    TASKS,
    fitted,
    opposite_rows,
    recipe_with,
    small_hinet,
    with_columns,
)
from tests.support.training_process import SMALL, write_train_params

pytestmark = pytest.mark.usefixtures("one_thread")
DECLARED = {"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu"}


@pytest.mark.unit
def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    """An infinite input is refused with a message that says what to do."""
    rows = opposite_rows(1000, 0)
    rows.numeric[17] = np.inf
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        fit(small_hinet(), rows, opposite_rows(500, 1), RECIPE, **DECLARED)


@pytest.mark.unit
@pytest.mark.parametrize("name", ["training", "validation"])
def test_an_empty_set_is_refused(name: str) -> None:
    """Without training or validation rows the run stops before its first step."""
    sizes = {"training": (0, 100), "validation": (100, 0)}[name]
    rows, valid = (opposite_rows(size, seed) for seed, size in enumerate(sizes))
    with pytest.raises(TrainingError, match=f"{name} set has no rows"):
        fit(small_hinet(), rows, valid, RECIPE, **DECLARED)


@pytest.mark.unit
def test_a_scenario_without_rows_is_warned_of() -> None:
    """The run goes on and says which scenario keeps its initial weights, and which cells cannot be measured."""
    rows, valid = (
        with_columns(t, scenario=np.zeros_like(t.scenario)) for t in (opposite_rows(500, 0), opposite_rows(500, 1))
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(small_hinet(), rows, valid, RECIPE, **DECLARED)
    texts = [str(warning.message) for warning in caught]
    assert any("scenario there has no training rows" in text for text in texts)
    assert sum("there/click, there/like" in text for text in texts) == 1
    assert np.isnan(result.best.valid_metrics[1]).all()
    assert result.best.valid_mean == pytest.approx(result.best.valid_metrics[0].mean())


@pytest.mark.unit
def test_a_validation_set_without_both_classes_is_refused() -> None:
    """Where no cell has both classes no epoch can be chosen."""
    valid = opposite_rows(500, 1)
    one_class = with_columns(valid, labels=np.ones_like(valid.labels))
    with pytest.raises(TrainingError, match="no cell of the validation set has both classes"):
        fit(small_hinet(), opposite_rows(500, 0), one_class, RECIPE, **DECLARED)


@pytest.mark.unit
def test_a_task_without_labels_is_refused_and_one_class_is_warned_of() -> None:
    """A task with no label cannot be trained; one with a single class is trained, with a warning."""
    rows, valid = opposite_rows(500, 0), opposite_rows(500, 1)
    unobserved, positive = rows.labels.copy(), rows.labels.copy()
    unobserved[:, 1], positive[:, 1] = np.nan, 1
    with pytest.raises(TrainingError, match="task like has no label"):
        fit(small_hinet(), with_columns(rows, labels=unobserved), valid, RECIPE, **DECLARED)
    with pytest.warns(UserWarning, match="task like has only labels"):
        fit(small_hinet(), with_columns(rows, labels=positive), valid, RECIPE, **DECLARED)


@pytest.mark.unit
def test_exploding_gradients_are_warned_of() -> None:
    """A loss far above that of predicting 0.5 is finite and yet a fault: the warning names the parameters to change."""
    with pytest.warns(UserWarning, match=r"gradients explode; set train\.clip_gradient_norm .* or lower"):
        fitted(small_hinet(), recipe_with(learning_rate=30.0, epochs=1))


def no_rows(column: np.ndarray) -> np.ndarray:
    """The column of an empty set."""
    return column[:0]


def no_labels(column: np.ndarray) -> np.ndarray:
    """Labels that are all unobserved."""
    return np.full_like(column, np.nan)


def one_class(column: np.ndarray) -> np.ndarray:
    """Labels that are all 1."""
    return np.ones_like(column)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("split", "columns", "change", "words"),
    [
        ("valid", "*", no_rows, "validation set has no rows: look at join.split"),
        ("train", "*", no_rows, "training set has no rows: look at join.split"),
        ("train", "labels", no_labels, "has no label in the training set: leave the task out"),
        ("valid", "labels", one_class, "no epoch can be chosen; raise join.valid_share"),
    ],
)
def test_a_stage_that_stops_leaves_the_last_model_as_it_was(
    stage_arguments: dict[str, Path],
    tmp_path: Path,
    split: str,
    columns: str,
    change: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    """The message says what to do; the folder of the last model is whole, and there is nothing beside it."""
    write_train_params(tmp_path, {**SMALL, "epochs": 2})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "hinet").write_text("the last model")
    for path in (stage_arguments["tensors"] / split).glob(f"{columns}.npy"):
        np.save(path, change(np.load(path)))
    with pytest.raises(TrainingError, match=words):
        train(model="hinet", out=tmp_path / "models" / "hinet", **stage_arguments)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["hinet"]
    assert (tmp_path / "models" / "hinet").read_text() == "the last model"
