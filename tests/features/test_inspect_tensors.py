"""The border of the tensors: clean ones pass, and each planted fault is named and closes the gate or warns."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common import params
from common.errors import ValidationError
from features.encoding.encoder import LIMIT, Encoder
from features.encoding.tensors import open_tensors
from features.inspect_tensors import inspect_tensors
from features.quality import tensors as border
from features.quality.gate import SuiteResult
from features.quality.tensors import check_tensors
from features.schema import SPLITS
from tests.support import world

SETTINGS = params.Inspect(**world.section("inspect"))
Edit = Callable[[np.ndarray], Any]


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the tensors of the tiny project, to plant faults in, beside what they were made from."""
    for name in ("training", "tensors"):
        shutil.copytree(project / "data" / name, tmp_path / name)
    shutil.copy(project / "data" / "schema.json", tmp_path)
    shutil.copy(project / "artifacts" / "encoder.json", tmp_path)
    return tmp_path


def check(data: Path) -> list[SuiteResult]:
    """The suites on what lies in `data`."""
    encoder = Encoder.read(data / "encoder.json")
    return check_tensors(world.schema(), encoder, SETTINGS, training=data / "training", tensors=data / "tensors")


def failed(suites: list[SuiteResult]) -> set[tuple[str, str, str]]:
    """Severity, suite and name of every rule that is broken."""
    return {(o.rule.severity, suite.name, o.rule.name) for suite in suites for o in suite.failed}


def edit_array(data: Path, split: str, name: str, edit: Edit) -> None:
    """Rewrite an array: with what `edit` returns, or as it left it."""
    path = data / "tensors" / split / f"{name}.npy"
    array = np.load(path)
    changed = edit(array)
    np.save(path, array if changed is None else changed)


def put(place: Any, value: float) -> Edit:
    """An edit that puts one value at a place."""

    def edit(array: np.ndarray) -> None:
        array[place] = value

    return edit


Fault = tuple[str, str, Edit, str, str]  # severity, rule, edit, array, split
FAULTS: dict[str, list[Fault]] = {
    "arrays": [
        ("critical", "rows lost or added", lambda array: array[:-1], "labels", "train"),
        ("critical", "array of another type", lambda array: array.astype("float64"), "numeric", "valid"),
        ("critical", "array of another type", lambda array: array[:, 1:], "categorical", "test"),
    ],
    "ids beyond": [
        ("critical", "id beyond its table", put((3, 1), 500), "categorical", "train"),
        ("critical", "id beyond its table", put((0, 0), 500), "bags", "valid"),
        ("critical", "id beyond its table", put(5, 3), "scenario", "test"),
    ],
    "ids below": [
        ("critical", "id below its table", put((3, 0), -1), "categorical", "train"),
        ("critical", "id below its table", put((0, 0), -2), "bags", "valid"),
        ("critical", "id below its table", put(5, -1), "scenario", "test"),
    ],
    "values": [
        ("critical", "not finite", put((7, 0), np.nan), "numeric", "train"),
        ("critical", "beyond the limit", put((7, 0), LIMIT + 1), "numeric", "valid"),
        ("critical", "label outside its classes", put((2, 0), 2), "labels", "valid"),
        ("critical", "label outside its classes", put((2, 1), 0.5), "labels", "test"),
        ("critical", "other events", lambda array: np.roll(array, 1), "event_id", "test"),
        ("warning", "unknown too often", put((slice(None), 0), 0), "categorical", "test"),
    ],
}


def test_clean_tensors_pass(project: Path) -> None:
    """Every rule holds on what encode wrote; the suites count its rows."""
    encoder = Encoder.read(project / "artifacts" / "encoder.json")
    folder = project / "data"
    suites = check_tensors(world.schema(), encoder, SETTINGS, training=folder / "training", tensors=folder / "tensors")
    assert not failed(suites)
    assert [suite.name for suite in suites] == list(SPLITS)
    assert sum(suite.rows for suite in suites) == 600


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_named(data: Path, faults: list[Fault]) -> None:
    """Exactly the rules that the faults break are broken, each in the suite of its split."""
    for _, _, edit, array, split in faults:
        edit_array(data, split, array, edit)
    assert failed(check(data)) == {(severity, split, rule) for severity, rule, _, _, split in faults}


def test_an_event_that_stands_twice_is_another_event(data: Path) -> None:
    """A row under the id of its neighbour breaks both rules, and both name the id."""
    edit_array(data, "train", "event_id", lambda array: np.concatenate([array[1:2], array[1:]]))
    suites = check(data)
    assert failed(suites) == {("critical", "train", "other events"), ("critical", "train", "repeated events")}
    own = str(open_tensors(data / "tensors" / "train").event_id[1])
    examples = {o.rule.name: o.examples[0] for o in suites[0].failed}
    assert examples["other events"] == {"array": "event_id", "other events": 1, "first others": own}
    assert examples["repeated events"] == {"array": "event_id", "repeated events": 1, "first repeated": own}


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:90])])
def test_an_array_that_is_gone_or_cut_short_is_no_crash(data: Path, damage: Callable[[Path], Any]) -> None:
    """It has no rows and no type."""
    damage(data / "tensors" / "valid" / "bags.npy")
    named = {("critical", "valid", "rows lost or added"), ("critical", "valid", "array of another type")}
    assert failed(check(data)) == named


def test_blocks_change_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements measured in blocks of seven rows are those of the whole array, by plain NumPy."""
    edit_array(data, "train", "numeric", put((slice(10, 20), 1), np.inf))
    edit_array(data, "train", "labels", put((slice(100, 133), 0), 7))
    monkeypatch.setattr(border, "BLOCK_ROWS", 7)
    held, encoder = open_tensors(data / "tensors" / "train"), Encoder.read(data / "encoder.json")
    ids = border._ids(encoder, held, SETTINGS).rows
    width = held.categorical.shape[1]
    assert ids["lowest"].to_pylist()[:width] == held.categorical.min(axis=0).tolist()
    assert ids["highest"].to_pylist()[:width] == held.categorical.max(axis=0).tolist()
    assert ids["unknown"].to_pylist()[:width] == pytest.approx((held.categorical == 0).mean(axis=0), abs=1e-4)
    numbers = border._numbers(encoder, held).rows
    assert numbers["not finite"].to_pylist() == (~np.isfinite(held.numeric)).sum(axis=0).tolist()
    assert numbers["beyond the limit"].to_pylist() == (np.abs(held.numeric) > LIMIT).sum(axis=0).tolist()
    assert border._labels(world.schema(), held).rows["label outside its classes"].to_pylist() == [33, 0]


def test_the_stage_says_what_was_found(data: Path) -> None:
    """A NaN closes the gate: the message, the report and the page name the input."""
    world.write_params(data)
    edit_array(data, "test", "numeric", put((4, 0), np.nan))
    places = {name: Path(name) for name in ("training", "tensors")}
    with contextlib.chdir(data), pytest.raises(ValidationError, match=r"test: not finite.*user_impressions_7d"):
        inspect_tensors(
            schema=Path("schema.json"), encoder=Path("encoder.json"), **places, report=Path("i.json"), docs=Path("i")
        )
    (fault,) = json.loads((data / "i.json").read_text())["tables"]["test"]["failed"]
    assert fault["examples"] == [{"input": "user_impressions_7d", "not finite": 1}]
    assert "user_impressions_7d" in (data / "i" / "index.html").read_text()
