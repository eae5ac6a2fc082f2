"""What training refuses and what it warns of: each sentence says what to do, and nothing half-written is left."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import TrainingError
from models.train import train
from models.training.loop import fit
from tests.models.training.test_checkpoint import SMALL, given, write_params  # noqa: F401
from tests.models.training.test_loop import RECIPE, SCENARIOS, TASKS, changed, fitted, hinet, opposite, with_columns


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """One thread, and torch's settings as they were afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    """An infinite input is refused in words that say what to do."""
    train = opposite(1000, 0)
    train.numeric[17] = np.inf
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        fit(hinet(), train, opposite(500, 1), RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu")


@pytest.mark.parametrize("name", ["training", "validation"])
def test_an_empty_set_is_refused(name: str) -> None:
    """Without training or validation rows the run stops before its first step."""
    sizes = {"training": (0, 100), "validation": (100, 0)}[name]
    train, valid = (opposite(size, seed) for seed, size in enumerate(sizes))
    with pytest.raises(TrainingError, match=f"{name} set has no rows"):
        fit(hinet(), train, valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu")


def test_a_scenario_without_rows_is_warned_of() -> None:
    """The run goes on and says which scenario stays as drawn, and which cells cannot be judged."""
    train, valid = (with_columns(t, scenario=np.zeros_like(t.scenario)) for t in (opposite(500, 0), opposite(500, 1)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(hinet(), train, valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu")
    texts = [str(warning.message) for warning in caught]
    assert any("scenario there has no training rows" in text for text in texts)
    assert sum("there/click, there/like" in text for text in texts) == 1
    assert np.isnan(result.best.valid_auc[1]).all()
    assert result.best.valid_mean_auc == pytest.approx(result.best.valid_auc[0].mean())


def test_a_validation_set_without_both_classes_is_refused() -> None:
    """Where no cell has both classes no epoch can be chosen."""
    valid = opposite(500, 1)
    with pytest.raises(TrainingError, match="no cell of the validation set has both classes"):
        fit(
            hinet(),
            opposite(500, 0),
            with_columns(valid, labels=np.ones_like(valid.labels)),
            RECIPE,
            scenarios=SCENARIOS,
            tasks=TASKS,
            device="cpu",
        )


def test_a_task_without_labels_is_refused_and_one_class_is_warned_of() -> None:
    """A task with no label cannot be trained; one with a single class is trained, with a warning."""
    train, valid = opposite(500, 0), opposite(500, 1)
    silent, positive = train.labels.copy(), train.labels.copy()
    silent[:, 1], positive[:, 1] = np.nan, 1
    with pytest.raises(TrainingError, match="task like has no label"):
        fit(hinet(), with_columns(train, labels=silent), valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu")
    with pytest.warns(UserWarning, match="task like has only labels"):
        fit(
            hinet(), with_columns(train, labels=positive), valid, RECIPE, scenarios=SCENARIOS, tasks=TASKS, device="cpu"
        )


def test_exploding_gradients_are_warned_of() -> None:
    """A loss far above that of a coin is finite and yet a fault: the warning names the two parameters to turn."""
    with pytest.warns(UserWarning, match=r"gradients explode; set train\.clip_gradient_norm .* or lower"):
        fitted(hinet(), changed(learning_rate=30.0, epochs=1))


def no_rows(column: np.ndarray) -> np.ndarray:
    """An empty day."""
    return column[:0]


def no_labels(column: np.ndarray) -> np.ndarray:
    """Nobody has seen what became of the rows."""
    return np.full_like(column, np.nan)


def one_class(column: np.ndarray) -> np.ndarray:
    """Everything was clicked and ordered."""
    return np.ones_like(column)


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
    given: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    split: str,
    columns: str,
    change: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    """The sentence says what to do; the folder of the last model is whole, and there is nothing beside it."""
    write_params(tmp_path, {**SMALL, "epochs": 2})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "hinet").write_text("the last model")
    for path in (given["tensors"] / split).glob(f"{columns}.npy"):
        np.save(path, change(np.load(path)))
    with pytest.raises(TrainingError, match=words):
        train(model="hinet", out=tmp_path / "models" / "hinet", **given)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["hinet"]
    assert (tmp_path / "models" / "hinet").read_text() == "the last model"
