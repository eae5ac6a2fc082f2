"""Values of params.yaml by dotted name: read, checked, and written so that only their lines change."""

import difflib

import pytest
from dvc.utils.serialize import dumps_yaml, loads_yaml

from common.errors import ParameterError
from common.paths import PARAMS, ROOT
from common.yaml_file import parse_yaml, read_yaml
from models.tuning.parameters import settings_of, value_of, with_values, with_values_in_text

pytestmark = pytest.mark.unit

PLAIN = read_yaml(ROOT / PARAMS)
TEXT = (ROOT / PARAMS).read_text()


def test_a_value_is_read_by_its_name() -> None:
    """A dotted name is a path of keys."""
    assert value_of(PLAIN, "train.hinet.expert_units") == PLAIN["train"]["hinet"]["expert_units"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("train.hinet.experts", "train.hinet has sub_experts"), ("train.seed.x", "train.seed has nothing below it")],
)
def test_an_unknown_name_is_answered_with_those_that_exist(name: str, shown: str) -> None:
    """The message has the names at the level of the one that is missing."""
    with pytest.raises(ParameterError, match=rf"{name} is not in params.yaml: {shown}"):
        value_of(PLAIN, name)


def test_other_values_leave_the_parameters_as_they_were() -> None:
    """A copy is changed."""
    changed = with_values(PLAIN, {"train.hinet.tower_units": [8]})
    assert changed["train"]["hinet"]["tower_units"] == [8]
    assert PLAIN["train"]["hinet"]["tower_units"] != [8]


def test_a_value_that_is_not_allowed_is_named() -> None:
    """The rule of common/train_params.py is the reason."""
    with pytest.raises(ParameterError, match=r"train\.hinet\.scenario_view: .*two widths or more|two widths or more"):
        settings_of(PLAIN, {"train.hinet.scenario_view": [8]})
    with pytest.raises(ParameterError, match=r"train\.learning_rate: .*greater than 0, found 0"):
        settings_of(PLAIN, {"train.learning_rate": 0.0})


def test_only_the_lines_of_changed_values_are_written() -> None:
    """Comments, order and all other lines stay; a value that is the same is not touched."""
    values = {
        "train.learning_rate": 0.00123,
        "train.hinet.tower_units": [48],
        "train.batch_size": PLAIN["train"]["batch_size"],
    }
    written = with_values_in_text(TEXT, values)
    lines = [line for line in difflib.ndiff(TEXT.splitlines(), written.splitlines()) if line[0] in "+-"]
    assert [line for line in lines if line[0] == "+"] == ["+   learning_rate: 0.00123", "+     - 48"]
    assert len(lines) == 2 + 1 + len(PLAIN["train"]["hinet"]["tower_units"])
    assert parse_yaml(written, "params.yaml") == with_values(PLAIN, values)


def test_the_file_is_written_as_dvc_writes_it() -> None:
    """DVC, which reads and writes the file for `--set-param`, gives the same text."""
    values = {"train.learning_rate": 1e-05, "train.hinet.scenario_view": [64, 32]}
    document = loads_yaml(TEXT, typ="rt")
    document["train"]["learning_rate"] = 1e-05
    document["train"]["hinet"]["scenario_view"] = [64, 32]
    assert with_values_in_text(TEXT, values) == dumps_yaml(document)
