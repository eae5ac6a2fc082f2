"""The quality gate of the tensors: clean ones pass, and each kind of damage closes the gate or warns."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import params
from features.encoding.encoder import LIMIT, Encoder
from features.encoding.tensors import open_tensors
from features.quality import tensor_labels
from features.quality import tensors as tensors_gate
from features.quality.gate import SuiteResult
from features.quality.tensors import check_tensors
from features.schema import SPLITS
from tests.support import world
from tests.support.damaged_tensors import Edit, edit_array, set_value

pytestmark = pytest.mark.integration

SETTINGS = params.Inspect(**world.section("inspect"))


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the tensors of the tiny project, to damage, and of the files that they were made from."""
    for name in ("training", "tensors"):
        shutil.copytree(project / "data" / name, tmp_path / name)
    shutil.copy(project / "data" / "schema.json", tmp_path)
    shutil.copy(project / "artifacts" / "encoder.parquet", tmp_path)
    return tmp_path


def check(data: Path) -> list[SuiteResult]:
    """The suites on what lies in `data`."""
    encoder = Encoder.read(data / "encoder.parquet")
    return check_tensors(world.schema(), encoder, SETTINGS, training=data / "training", tensors=data / "tensors")


def failed(suites: list[SuiteResult]) -> set[tuple[str, str, str]]:
    """Severity, suite and name of every rule that is broken."""
    return {(o.rule.severity, suite.name, o.rule.name) for suite in suites for o in suite.failed}


Fault = tuple[str, str, Edit, str, str]  # severity, rule, edit, array, split
FAULTS: dict[str, list[Fault]] = {
    "arrays": [
        ("critical", "rows lost or added", lambda array: array[:-1], "labels", "train"),
        ("critical", "array of another type", lambda array: array.astype("float64"), "numeric", "valid"),
        ("critical", "array of another type", lambda array: array[:, 1:], "categorical", "test"),
    ],
    "ids beyond": [
        ("critical", "id beyond its table", set_value((3, 1), 500), "categorical", "train"),
        ("critical", "id beyond its table", set_value((0, 0), 500), "bags", "valid"),
        ("critical", "id beyond its table", set_value(5, 3), "scenario", "test"),
    ],
    "ids below": [
        ("critical", "id below its table", set_value((3, 0), -1), "categorical", "train"),
        ("critical", "id below its table", set_value((0, 0), -2), "bags", "valid"),
        ("critical", "id below its table", set_value(5, -1), "scenario", "test"),
    ],
    "values": [
        ("critical", "not finite", set_value((7, 0), np.nan), "numeric", "train"),
        ("critical", "beyond the limit", set_value((7, 0), LIMIT + 1), "numeric", "valid"),
        ("critical", "label outside its classes", set_value((2, 0), 2), "labels", "valid"),
        ("critical", "label outside its classes", set_value((2, 1), 0.5), "labels", "test"),
        ("critical", "other events", lambda array: np.roll(array, 1), "event_id", "test"),
        ("warning", "unknown too often", set_value((slice(None), 0), 0), "categorical", "test"),
    ],
}


def test_clean_tensors_pass(project: Path) -> None:
    """Every rule holds on what encode wrote; the suites count its rows."""
    encoder = Encoder.read(project / "artifacts" / "encoder.parquet")
    folder = project / "data"
    suites = check_tensors(world.schema(), encoder, SETTINGS, training=folder / "training", tensors=folder / "tensors")
    assert not failed(suites)
    assert [suite.name for suite in suites] == list(SPLITS)
    assert sum(suite.rows for suite in suites) == 600


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_damage_is_named(data: Path, faults: list[Fault]) -> None:
    """Exactly the rules that the damage breaks are reported, each in the suite of its split."""
    for _, _, edit, array, split in faults:
        edit_array(data, split, array, edit)
    assert failed(check(data)) == {(severity, split, rule) for severity, rule, _, _, split in faults}


def test_a_repeated_event_breaks_two_rules(data: Path) -> None:
    """A row with the id of its neighbour is a repeated and another event; both rules name the id."""
    edit_array(data, "train", "event_id", lambda array: np.concatenate([array[1:2], array[1:]]))
    suites = check(data)
    assert failed(suites) == {("critical", "train", "other events"), ("critical", "train", "repeated events")}
    own = str(open_tensors(data / "tensors" / "train").event_id[1])
    examples = {o.rule.name: o.examples[0] for o in suites[0].failed}
    assert examples["other events"] == {"array": "event_id", "other events": 1, "first others": own}
    assert examples["repeated events"] == {"array": "event_id", "repeated events": 1, "first repeated": own}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:90])])
def test_an_absent_or_truncated_array_is_reported(data: Path, damage: Callable[[Path], Any]) -> None:
    """An absent or truncated array has no rows and no type."""
    damage(data / "tensors" / "valid" / "bags.npy")
    named = {("critical", "valid", "rows lost or added"), ("critical", "valid", "array of another type")}
    assert failed(check(data)) == named


def test_blocks_change_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements measured in blocks of seven rows are those of the whole array, by plain NumPy."""
    edit_array(data, "train", "numeric", set_value((slice(10, 20), 1), np.inf))
    edit_array(data, "train", "labels", set_value((slice(100, 133), 0), 7))
    for module in (tensors_gate, tensor_labels):
        monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    arrays, encoder = open_tensors(data / "tensors" / "train"), Encoder.read(data / "encoder.parquet")
    ids = tensors_gate._ids(encoder, arrays, SETTINGS).rows
    width = arrays.categorical.shape[1]
    assert ids["lowest"].to_pylist()[:width] == arrays.categorical.min(axis=0).tolist()
    assert ids["highest"].to_pylist()[:width] == arrays.categorical.max(axis=0).tolist()
    assert ids["unknown"].to_pylist()[:width] == pytest.approx((arrays.categorical == 0).mean(axis=0), abs=1e-4)
    numbers = tensors_gate._numbers(encoder, arrays).rows
    assert numbers["not finite"].to_pylist() == (~np.isfinite(arrays.numeric)).sum(axis=0).tolist()
    assert numbers["beyond the limit"].to_pylist() == (np.abs(arrays.numeric) > LIMIT).sum(axis=0).tolist()
    assert tensor_labels.label_counts(world.schema(), arrays).rows["label outside its classes"].to_pylist() == [33, 0]
