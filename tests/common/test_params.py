"""params.yaml is strict: what is not understood is an error that names it."""

from pathlib import Path

import pytest

from common import params
from common.errors import ParameterError
from common.paths import ROOT
from common.yaml_file import dump_yaml, read_yaml

pytestmark = pytest.mark.unit
PLAIN = read_yaml(ROOT / "params.yaml")


def load(tmp_path: Path, plain: object) -> params.Params:
    """The parameters written as YAML and read."""
    (tmp_path / "params.yaml").write_text(dump_yaml(plain), encoding="utf-8")
    return params.load(tmp_path / "params.yaml")


def test_the_file_in_the_repository_is_right() -> None:
    """The params.yaml of the repository loads, and names the simulation."""
    assert params.load(ROOT / "params.yaml").dataset.name == "simulation"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("train", "lerning_rate", 0.1),
        ("train", "learning_rate", "fast"),
        ("train", "batch_size", 0),
        ("train", "batch_size", 10.5),
        ("dataset", "name", "netflix"),
        ("join", "test_share", 0.9),
        ("serve", "objective", {"click": -1}),
    ],
)
def test_a_wrong_value_is_named_with_its_section(tmp_path: Path, section: str, key: str, value: object) -> None:
    """The message holds the dotted name of the parameter and what was found."""
    changed = {**PLAIN, section: {**PLAIN[section], key: value}}
    with pytest.raises(ParameterError, match=rf"{section}\.{key}") as error:
        load(tmp_path, changed)
    assert repr(next(iter(value.values())) if isinstance(value, dict) else value) in str(error.value)


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        ({"kind": "shift"}, r"dataset\.simulation\.shift\.kind.*'season', found 'shift'"),
        ({"scenario": "kitchen"}, r"dataset\.simulation\.shift\.scenario.*found 'kitchen'"),
        ({"from_day": 0}, r"dataset\.simulation\.shift\.from_day.*found 0"),
        ({"kind": "unit", "from_day": 15}, r"dataset\.simulation: .*one of the 14 days, found 15"),
    ],
)
def test_a_shift_that_is_impossible_is_refused(tmp_path: Path, shift: dict, message: str) -> None:
    """Neither of another kind, nor in another scenario, nor before the first day, nor after the last."""
    simulation = PLAIN["dataset"]["simulation"]
    changed = {**simulation, "shift": {**simulation["shift"], **shift}}
    with pytest.raises(ParameterError, match=message):
        load(tmp_path, {**PLAIN, "dataset": {**PLAIN["dataset"], "simulation": changed}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenario_view": [64]}, r"scenario_view needs two widths or more, .* found \[64\]"),
    ],
)
def test_a_shape_that_no_network_has_is_named(tmp_path: Path, change: dict, message: str) -> None:
    """A shape of HiNet that is impossible is refused when the file is read, not when the network is made."""
    changed = {**PLAIN["train"], "hinet": {**PLAIN["train"]["hinet"], **change}}
    with pytest.raises(ParameterError, match=rf"train\.hinet: .*{message}"):
        load(tmp_path, {**PLAIN, "train": changed})


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    """Without `encode`, the error says so."""
    with pytest.raises(ParameterError, match="encode: Field required"):
        load(tmp_path, {name: section for name, section in PLAIN.items() if name != "encode"})


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    """Outside the project's folder the error names the file that was looked for."""
    with pytest.raises(ParameterError, match=r"params\.yaml does not exist: run from"):
        params.load(tmp_path / "params.yaml")
