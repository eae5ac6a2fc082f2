"""A run of the accuracy benchmark: auxiliary tasks are not measured, members of an ensemble are averaged."""

import dataclasses
import gc
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.rows import read_rows
from benchmarks.accuracy.runs import run, train_member
from common import params
from common.paths import TENSORS
from features.encoding.tensors import open_tensors

pytestmark = pytest.mark.integration
TRAIN = params.load().train


def test_auxiliary_tasks_are_learned_and_not_measured(prepared: Path) -> None:
    """Two columns of logits are returned, of a network with towers for more; no warning names an auxiliary task.

    The warning that the few valid rows do not have both classes in all cells is the one without auxiliary tasks.
    """
    (row,) = read_rows("movielens-1m", ["shared_bottom"], TRAIN.model_copy(update={"patience": 1}))
    row = dataclasses.replace(row, train=row.train.model_copy(update={"epochs": 1}))
    gc.collect()  # resources that earlier tests left open warn now, not during the training
    with pytest.warns(UserWarning, match="cells with one class") as usual:
        plain = train_member(row, 1, prepared)
    with pytest.warns(UserWarning, match="cells with one class") as warned:
        auxiliary = train_member(dataclasses.replace(row, auxiliary=("above_1", "above_2")), 1, prepared)
    assert [str(warning.message) for warning in warned] == [str(warning.message) for warning in usual]
    assert auxiliary.valid.shape == plain.valid.shape
    assert auxiliary.test.shape == plain.test.shape
    assert auxiliary.parameters > plain.parameters


@pytest.mark.filterwarnings("ignore:cells with one class")  # the archive is small
def test_members_have_their_own_seeds_and_are_averaged(prepared: Path, tmp_path: Path) -> None:
    """Of two members the second seed is 3 and 4; their mean logits are measured; trained once, they are read again."""
    (row,) = read_rows("movielens-1m", ["shared_mlp"], TRAIN.model_copy(update={"patience": 1}))
    row = dataclasses.replace(row, members=2, train=row.train.model_copy(update={"epochs": 1}))
    result = run(row, 2, prepared, tmp_path / "members")
    kept = sorted((tmp_path / "members").iterdir())
    assert [path.stem.split("-")[1] for path in kept] == ["3", "4"]
    third, fourth = train_member(row, 3, prepared), train_member(row, 4, prepared)
    test = open_tensors(prepared / TENSORS / "test")
    inside, clicks = test.scenario == 1, test.labels[:, 0]
    pairs = [(a, b) for a in np.flatnonzero(inside & (clicks == 1)) for b in np.flatnonzero(inside & (clicks == 0))]
    logits = third.test[:, 0] + fourth.test[:, 0]
    ranked = np.mean([(logits[a] > logits[b]) + 0.5 * (logits[a] == logits[b]) for a, b in pairs])
    assert result.auc[1][0] == pytest.approx(ranked, abs=1e-6)
    assert result.parameters == third.parameters + fourth.parameters
    written = [path.stat().st_mtime_ns for path in kept]
    assert run(row, 2, prepared, tmp_path / "members") == result
    assert [path.stat().st_mtime_ns for path in kept] == written
