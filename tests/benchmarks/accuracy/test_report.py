"""The table of the accuracy benchmark: mean and deviation over the seeds, and how a file is continued."""

import json
from pathlib import Path

import pytest

from benchmarks.accuracy.report import Report, Run, as_text
from benchmarks.accuracy.rows import read_rows
from common import params
from common.errors import ParameterError

pytestmark = pytest.mark.integration
TRAIN = params.load().train
PROTOCOL = "a protocol"


def run_with(auc: float) -> Run:
    """A run of three scenarios and two tasks whose cells all have this AUC."""
    return Run(auc=[[auc, auc]] * 3, valid_auc=[[auc, auc]] * 3, best_epoch=2, parameters=10, samples_per_second=5)


def test_the_table_has_mean_and_deviation_of_the_seeds(prepared: Path, tmp_path: Path) -> None:
    """Two seeds with 0.7 and 0.8 are 0.75 with a sample's deviation of 0.0707, in every cell and on the whole."""
    report = Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared)
    (row,) = read_rows("movielens-1m", ["hinet"], TRAIN)
    for seed, auc in ((1, 0.7), (2, 0.8)):
        report.add(row, seed, run_with(auc))
    report.write([row], 2)
    table = json.loads((tmp_path / "r.json").read_text())
    assert set(table["models"]["hinet"]["cells"]) == {f"S{i}/T{j}" for i in (1, 2, 3) for j in (1, 2)}
    assert table["models"]["hinet"]["cells"]["S1/T1"] == {"mean": 0.75, "std": 0.070711, "values": [0.7, 0.8]}
    assert table["models"]["hinet"]["mean_auc"] == 0.75
    assert (table["scenarios"], table["tasks"]) == (["S1", "S2", "S3"], ["click", "like"])


def test_a_table_is_continued(prepared: Path, tmp_path: Path) -> None:
    """A run in the file is not run again, unless a fact of its row changed; another protocol's file is refused."""
    (row,) = read_rows("movielens-1m", ["hinet"], TRAIN)
    Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared).add(row, 1, run_with(0.7))
    continued = Report(tmp_path / "r.json", "movielens-1m", PROTOCOL, prepared)
    (changed,) = read_rows("movielens-1m", ["hinet"], TRAIN.model_copy(update={"average": 0.5}))
    assert [continued.has(row, 1), continued.has(row, 2), continued.has(changed, 1)] == [True, False, False]
    with pytest.raises(ParameterError, match="give another --json"):
        Report(tmp_path / "r.json", "movielens-1m", "another", prepared)


@pytest.mark.parametrize(
    "table", [{"dataset": "a", "runs": []}, {"dataset": "a", "runs": [{"m": 1}, {"m": 2}], "models": {"x": {}}}]
)
def test_a_file_has_a_line_for_each_run_and_model(table: dict[str, object]) -> None:
    """It is JSON of the same table, whose difference in git names the runs that were added."""
    text = as_text(table)
    assert json.loads(text) == table
    assert len(text.splitlines()) == 3 + len(table["runs"] or [""]) + (
        2 + len(table["models"]) if "models" in table else 0
    )
