"""Finalists as experiments of DVC, by DVC itself."""

from pathlib import Path

import pytest

from common.yaml_file import read_yaml
from models.tuning.experiments import queue_experiments
from models.tuning.finalists import CURRENT, Finalist
from models.tuning.parameters import value_of
from tests.support.dvc_project import environment, training_project, typed

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_finalists_wait_in_the_queue_of_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC takes numbers, lists and text, and runs the stage with them; the workspace stays as it is."""
    folder = training_project(tmp_path)
    values = {"train.learning_rate": 0.00123, "train.hinet.tower_units": [8, 4], "train.precision": "bfloat16"}
    plain = read_yaml(folder / "params.yaml")
    current = {name: value_of(plain, name) for name in values}
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", environment()["PATH"])
    names = queue_experiments("hinet-1", [Finalist(CURRENT, current), Finalist("trial 7", values)], current)
    assert names == ["hinet-1-trial-7"]
    assert "hinet-1-trial-7" in typed("dvc queue status", folder)
    assert read_yaml(folder / "params.yaml") == plain
    typed(
        "dvc exp run --run-all --jobs 1; dvc exp branch hinet-1-trial-7 seven; git checkout --quiet --force seven",
        folder,
    )
    written = read_yaml(folder / "params.yaml")
    assert {name: value_of(written, name) for name in values} == values
