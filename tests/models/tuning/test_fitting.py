"""The training of a trial: the one of the stage `train`, and the name of the study that it belongs to."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from common import stage
from common.errors import ParameterError
from common.paths import ENCODER, PARAMS, REFERENCE, SCHEMA, TENSORS, TRAINING, VIEWS
from common.yaml_file import read_yaml
from features.encoding.encoder import Encoder
from models.train import train
from models.tuning.fitting import DivergedError, Fitting
from models.tuning.parameters import with_values
from models.tuning.space import read_space
from tests.support.search import DECLARED, PLAIN, planted_space, search_project

pytestmark = pytest.mark.integration
SMALL_NETWORK = {"train.hinet.expert_units": [8], "train.hinet.task_expert_units": [8], "train.hinet.tower_units": [8]}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Path:
    """The folder of a project with encoded rows, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return search_project(tmp_path, epochs=2)


def fitting(plain: dict[str, Any] | None = None, model: str = "hinet") -> Fitting:
    """The trainings of the project in the current folder."""
    plain = plain or read_yaml(PARAMS)
    return Fitting(model, plain, schema=SCHEMA, encoder=ENCODER, tensors=TENSORS, training=TRAINING)


def test_a_trial_is_the_training_of_the_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the values of params.yaml it has the validation mean of the stage `train`, and prints nothing."""
    means: dict[int, float] = {}
    capsys.readouterr()
    best = fitting().fit({}, 1, means.__setitem__)
    assert capsys.readouterr() == ("", "")
    copied = {"schema": SCHEMA, "views": VIEWS, "encoder": ENCODER, "reference": REFERENCE}
    train(model="hinet", **copied, tensors=TENSORS, out=Path("model"))
    assert best == json.loads(Path("model/model.json").read_text())["summary"]["valid_mean_auc"] == max(means.values())
    assert list(means) == [1, 2]


def test_a_pruned_trial_ends(project: Path) -> None:
    """What the report raises ends the training after that epoch."""
    epochs = []

    def prune(number: int, mean: float) -> None:
        epochs.append(number)
        raise optuna.TrialPruned

    with pytest.raises(optuna.TrialPruned):
        fitting().fit(SMALL_NETWORK, 1, prune)
    assert epochs == [1]


def test_a_loss_that_is_not_finite_is_a_diverged_trial(project: Path) -> None:
    """The message of the training is kept."""
    with pytest.raises(DivergedError, match=r"not finite|nan|inf"):
        fitting().fit(SMALL_NETWORK | {"train.learning_rate": 1e30}, 1, lambda number, mean: None)


def test_the_name_of_a_study_says_what_its_trials_share(project: Path) -> None:
    """Data set, network, space, and parameters that are not searched for; not those that are, nor other networks'."""
    space, plain = planted_space(project), read_yaml(PARAMS)
    name = fitting(plain).study_name(space)
    same = {"train.learning_rate": 0.1, "train.mmoe.experts": 2, "train.processes": 4, "evaluate.bins": 3}
    assert fitting(with_values(plain, same)).study_name(space) == name
    others = [
        fitting(with_values(plain, {"train.average": 0.5})).study_name(space),
        fitting(with_values(plain, {"train.hinet.sub_experts": 4})).study_name(space),
        fitting(plain).study_name(planted_space(project, {"train.learning_rate": DECLARED["train.learning_rate"]})),
        fitting(plain, "mmoe").study_name(read_space(project / "search.yaml", PLAIN, "mmoe")),
    ]
    encoder = Encoder.read(ENCODER)
    dataclasses.replace(encoder, capped=("item_id",)).write(ENCODER)
    others.append(fitting(plain).study_name(space))
    labels = TENSORS / "valid" / "labels.npy"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\x3f")
    others.append(fitting(plain).study_name(space))
    assert len({name, *others}) == 7


def test_an_unknown_network_is_named(project: Path) -> None:
    """The networks are listed."""
    with pytest.raises(ParameterError, match="hinett: expected one of hinet, "):
        fitting(model="hinett")
