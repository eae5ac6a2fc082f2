"""Which finalist is chosen, and what is done with its values."""

import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest

from common.errors import PipelineError
from common.paths import PARAMS, ROOT
from common.yaml_file import read_yaml
from models.tuning import experiments
from models.tuning.apply import apply
from models.tuning.experiments import experiment_command, queue_experiments, shown
from models.tuning.finalists import CURRENT, Finalist, changes, choose
from models.tuning.page import write_page
from models.tuning.search import Extent, SearchResult, run_search
from tests.support.search import PLAIN, RATE, UNITS, PlantedMeans, in_memory, planted_space

pytestmark = pytest.mark.integration

OLD: dict[str, Any] = {RATE: 0.002, UNITS: [64, 32]}
NEW: dict[str, Any] = {RATE: 0.0075, UNITS: [64, 16]}


def result_of(*finalists: Finalist) -> SearchResult:
    """The end of a search with these finalists."""
    return SearchResult(study=optuna.create_study(study_name="hinet-1"), finalists=finalists, chosen=choose(finalists))


@pytest.mark.parametrize(
    ("current", "trial", "chosen"),
    [
        ((0.70, 0.71, 0.72), (0.75, 0.76, 0.77), "trial 4"),
        ((0.70, 0.75, 0.80), (0.71, 0.76, 0.81), CURRENT),  # 0.01, with a standard error of 0.04
        ((0.70, 0.71, 0.72), (0.68, 0.69, 0.70), CURRENT),
        ((0.70,), (0.71,), "trial 4"),
        ((0.70,), (0.70,), CURRENT),
    ],
)
def test_a_gain_within_its_standard_error_is_none(current: Any, trial: Any, chosen: str) -> None:
    """Params.yaml stays; with one seed there is no spread, and the mean decides."""
    assert choose([Finalist(CURRENT, OLD, current), Finalist("trial 4", NEW, trial)]).name == chosen


def test_a_finalist_is_shown_with_its_spread() -> None:
    """Mean and standard deviation."""
    assert Finalist("trial 4", NEW, (0.7, 0.8)).label == "trial 4: 0.7500 ± 0.0707"
    assert Finalist("trial 4", NEW, (0.7,)).label == "trial 4: 0.7000"
    assert changes(Finalist("trial 4", OLD | {RATE: 0.1}), OLD) == {RATE: 0.1}


def test_the_chosen_values_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --write the lines of the values change; without it, the command is printed."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / PARAMS).read_text()
    PARAMS.write_text(text)
    result = result_of(Finalist(CURRENT, OLD, (0.7, 0.71)), Finalist("trial 4", NEW, (0.8, 0.81)))
    apply(result, OLD, write=False, experiments=False)
    assert PARAMS.read_text() == text
    output = capsys.readouterr().out
    assert "trial 4: 0.8050 ± 0.0071 (chosen)\n" in output
    assert f"dvc exp run --set-param {RATE}=0.0075 --set-param '{UNITS}=[64,16]'\n" in output
    apply(result, OLD, write=True, experiments=False)
    train = read_yaml(PARAMS)["train"]
    assert (train["learning_rate"], train["hinet"]["tower_units"]) == (0.0075, [64, 16])
    assert PARAMS.read_text().count("#") == text.count("#")
    assert f"params.yaml: {UNITS}: [64, 16], was [64, 32]" in capsys.readouterr().out


def test_params_yaml_stays_where_nothing_is_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file is written."""
    monkeypatch.chdir(tmp_path)
    apply(
        result_of(Finalist(CURRENT, OLD, (0.7,)), Finalist("trial 4", NEW, (0.6,))), OLD, write=True, experiments=False
    )
    assert "params.yaml stays as it is" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_finalists_are_queued_by_the_command_of_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """One experiment for each but params.yaml; where DVC fails, its message is shown."""
    commands: list[list[str]] = []

    def run(command: list[str], **others: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(command)
        return subprocess.CompletedProcess(command, len(commands) - 1, "", "ERROR: no such target\n")

    monkeypatch.setattr(experiments.subprocess, "run", run)
    finalists = [Finalist(CURRENT, OLD), Finalist("trial 4", NEW)]
    assert queue_experiments("hinet-1", finalists, OLD) == ["hinet-1-trial-4"]
    assert commands[0][:4] == ["dvc", "exp", "run", "--queue"]
    with pytest.raises(PipelineError, match=r"dvc exp run .* failed: ERROR: no such target"):
        queue_experiments("hinet-1", finalists, OLD)


def test_values_are_written_in_the_syntax_of_dvc() -> None:
    """Lists, text, null and truth values."""
    values = {"a": [], "b": ["fm"], "c": None, "d": True, "e": 1e-05, "f": "bfloat16"}
    assert shown(experiment_command(values)) == (
        "dvc exp run --set-param 'a=[]' --set-param 'b=[\"fm\"]' --set-param c=null --set-param d=true "
        "--set-param e=1e-05 --set-param f=bfloat16"
    )


def test_the_page_of_one_trial_says_what_it_lacks(tmp_path: Path) -> None:
    """Plots of one point are left out."""
    space = planted_space(tmp_path)
    with in_memory() as storage:
        current, extent = space.current(PLAIN), Extent(trials=1, finalists=1, seeds=1)
        result = run_search(storage, "hinet-1", space, PlantedMeans(), current=current, seed=1, extent=extent)
        write_page(tmp_path / "index.html", result, current, "mean AUC")
    assert (tmp_path / "index.html").read_text().count("Left out: it needs two complete trials") == 5
