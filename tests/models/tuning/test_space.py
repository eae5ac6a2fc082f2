"""The space of a search: what search.yaml may say, and what is drawn from it."""

import re
from pathlib import Path
from typing import Any

import optuna
import pytest

from common.errors import ParameterError
from common.paths import PARAMS, ROOT, SPACE
from common.yaml_file import dump_yaml, read_yaml
from models.tuning.space import Space, read_space

pytestmark = pytest.mark.unit

PLAIN = read_yaml(ROOT / PARAMS)
DECLARED: dict[str, Any] = {
    "train.learning_rate": {"float": {"low": 0.001, "high": 0.01, "log": True}},
    "train.batch_size": {"int": {"low": 64, "high": 256, "step": 64}},
    "train.hinet.expert_units": {"choice": [[8], [16, 8], [64, 32]]},
    "train.hinet.hierarchy": {"choice": [True, False]},
    "train.mmoe.experts": {"int": {"low": 2, "high": 4}},
}


def space_of(folder: Path, declared: dict[str, Any], model: str = "hinet") -> Space:
    """The space that a file with this declaration is read as."""
    (folder / "search.yaml").write_text(dump_yaml(declared))
    return read_space(folder / "search.yaml", PLAIN, model)


def drawn_from(space: Space, study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    """The values of so many trials of the study, drawn at random."""
    drawn: list[dict[str, Any]] = []

    def objective(trial: optuna.Trial) -> float:
        drawn.append(space.suggest(trial))
        return 0.0

    study.sampler = optuna.samplers.RandomSampler(seed=1)
    study.optimize(objective, n_trials=trials)
    return drawn


def fault_of(folder: Path, name: str, declaration: Any) -> str:
    """The message of the error of a wrong declaration."""
    with pytest.raises(ParameterError) as caught:
        space_of(folder, {name: declaration})
    return str(caught.value)


def test_the_space_of_the_project_is_valid() -> None:
    """search.yaml names parameters of params.yaml, and the values that these have are in the space."""
    space = read_space(ROOT / SPACE, PLAIN, "hinet")
    assert space.stored(space.current(PLAIN)) is not None
    assert {"train.learning_rate", "train.embedding_weight_decay", "train.unknown_share"} <= space.domains.keys()


def test_values_are_drawn_from_the_declared_ones(tmp_path: Path) -> None:
    """Numbers lie on their grid and are rounded; a list comes back as a list."""
    drawn = drawn_from(space_of(tmp_path, DECLARED), optuna.create_study(), 40)
    assert {values["train.batch_size"] for values in drawn} == {64, 128, 192, 256}
    assert all(0.001 <= values["train.learning_rate"] <= 0.01 for values in drawn)
    assert all(len(f"{values['train.learning_rate']:.10g}") <= len("0.00123") for values in drawn)
    assert [
        units for units in ([8], [16, 8], [64, 32]) if units not in [v["train.hinet.expert_units"] for v in drawn]
    ] == []
    assert {values["train.hinet.hierarchy"] for values in drawn} == {True, False}


def test_values_of_params_yaml_are_the_first_trial(tmp_path: Path) -> None:
    """As Optuna stores them they are drawn again; outside of the space there are none."""
    space, study = space_of(tmp_path, DECLARED), optuna.create_study()
    values = {
        "train.learning_rate": 0.002,
        "train.batch_size": 128,
        "train.hinet.expert_units": [16, 8],
        "train.hinet.hierarchy": False,
    }
    study.enqueue_trial(space.stored(values) or {})
    assert drawn_from(space, study, 1) == [values]
    assert space.stored(values | {"train.batch_size": 100}) is None
    assert space.stored(values | {"train.hinet.expert_units": [9]}) is None


def test_parameters_of_other_networks_are_left_out(tmp_path: Path) -> None:
    """One file serves every network; a digest is of what is used."""
    hinet, mmoe = space_of(tmp_path, DECLARED), space_of(tmp_path, DECLARED, "mmoe")
    assert set(DECLARED) - set(hinet.domains) == {"train.mmoe.experts"}
    assert {name.split(".")[1] for name in mmoe.domains} == {"learning_rate", "batch_size", "mmoe"}
    wider = DECLARED | {"train.mmoe.experts": {"int": {"low": 2, "high": 8}}}
    assert space_of(tmp_path, wider).digest == hinet.digest
    assert space_of(tmp_path, wider, "mmoe").digest != mmoe.digest


@pytest.mark.parametrize(
    ("name", "declaration", "message"),
    [
        ("train.learning_rat", {"choice": [1, 2]}, "train.learning_rat is not in params.yaml: train has seed, epochs"),
        ("train.hinet", {"choice": [1, 2]}, "train.hinet is a section: expected a parameter, such as train.hinet."),
        (
            "serve.reload_seconds",
            {"choice": [1, 2]},
            "serve.reload_seconds cannot be searched: expected a parameter of",
        ),
        ("train.seed", {"int": {"low": 1, "high": 3}}, "train.seed cannot be searched"),
        ("train.batch_size", {"int": {"low": 0, "high": 3}}, "train.batch_size: .* greater than 0, found 0"),
        ("train.batch_size", {"choice": [64, "many"]}, "train.batch_size: .*valid integer, found 'many'"),
        ("train.batch_size", {"int": {"low": 9, "high": 3}}, "line 3: .*low must be below high, found 9"),
        ("train.average", {"float": {"low": 0.0, "high": 0.5, "log": True}}, "log needs a low above 0"),
        ("train.average", {"floats": {"low": 0.0, "high": 0.5}}, "line 3: train.average.floats: Extra inputs"),
        ("train.average", {}, "expected one of float: {low, high, log}, int"),
        ("train.average", {"choice": [0.5, 0.5]}, "a choice stands there twice"),
        ("train.mmoe.experts", {"choice": [2, 4]}, "no parameter for hinet"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, name: str, declaration: Any, message: str) -> None:
    """The message names file, parameter and rule."""
    fault = fault_of(tmp_path, name, declaration)
    assert "search.yaml" in fault
    assert re.search(message, fault), fault
