"""benchmarks/accuracy/searched.py: rows whose recipes were searched, each with the same budget."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.accuracy.rows import Row, read_rows
from benchmarks.accuracy.searched import SPACE, search_row, searched, with_recipe
from common import params
from common.errors import ParameterError
from common.paths import TENSORS
from common.yaml_file import dump_yaml
from models.tuning.fitting import Fitting
from models.tuning.search import Extent

TRAIN = params.load().train
BUDGET = Extent(trials=2, finalists=1, seeds=1)


def small_row(name: str) -> Row:
    """A row of one epoch."""
    (row,) = read_rows("movielens-1m", [name], TRAIN)
    return dataclasses.replace(row, train=row.train.model_copy(update={"epochs": 1}))


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:cells with one class")  # the archive is small
def test_rows_have_the_same_budget_and_read_no_test_row(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows: as many trainings with the same seeds and the same values drawn; a second search has nothing to do."""
    space, calls = tmp_path / "space.yaml", []
    space.write_text(dump_yaml({"train.learning_rate": {"float": {"low": 0.0005, "high": 0.006, "log": True}}}))
    fit = Fitting.fit

    def recorded(self: Fitting, values: dict[str, float], seed: int, report: object) -> float:
        calls.append((self.model, values["train.learning_rate"], seed))
        return fit(self, values, seed, report)  # type: ignore[arg-type]

    monkeypatch.setattr(Fitting, "fit", recorded)
    (prepared / TENSORS / "test").rename(tmp_path / "hidden")
    rows = small_row("shared_bottom"), small_row("shared_mlp")
    for row in (*rows, *rows):
        result = search_row(row, prepared, tmp_path / "studies", space, BUDGET)
        assert result.finalists[0].values == {"train.learning_rate": row.train.learning_rate}
    drawn = [[call[1:] for call in calls if call[0] == row.network] for row in rows]
    assert drawn[0] == drawn[1]
    assert [seed for _, seed in drawn[0]] == [1, 1, 2, 2]


@pytest.mark.unit
def test_the_chosen_recipe_is_that_of_the_row() -> None:
    """Values go into the row, over a recipe of its network; its shape and all else stay."""
    (row,) = read_rows("simulation", ["hinet+"], TRAIN)
    changed = with_recipe(row, {"train.rare_id_rows": 100, "train.embedding_width": 8})
    assert changed.facts() == row.facts() | {"rare_id_rows": 100, "embedding_width": 8}


@pytest.mark.unit
def test_a_row_that_a_search_cannot_train_is_refused() -> None:
    """Neighbours and members are the benchmark's own: the message names the rows."""
    with pytest.raises(ParameterError, match=r"--models hinet\+ \(one member\): rows with neighbours"):
        searched(dataset="movielens-1m", models="hinet+ (one member),mmoe")


@pytest.mark.unit
def test_every_row_with_additions_can_be_searched() -> None:
    """The space fits the networks of the table."""
    from benchmarks.accuracy.searched import plain_params
    from models.tuning.space import read_space

    for row in read_rows("simulation", ["all"], TRAIN):
        assert read_space(SPACE, plain_params(row), row.network).domains.keys() == {
            f"train.{name}"
            for name in ("learning_rate", "embedding_weight_decay", "unknown_share", "rare_id_rows", "embedding_width")
        }
