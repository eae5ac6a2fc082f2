"""Stage inspect_training: the report of the training set's quality gate, and its exit."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from common.errors import ValidationError
from features.inspect_training import inspect_training
from tests.support import world
from tests.support.damaged_training_set import lose_a_row, lose_a_view

pytestmark = pytest.mark.integration


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the data of the tiny project, to damage."""
    for name in ("training", "features", "validated"):
        shutil.copytree(project / "data" / name, tmp_path / name)
    shutil.copy(project / "data" / "schema.json", tmp_path)
    return tmp_path


def run(data: Path) -> dict:
    """Run the stage on `data`; returns its report."""
    world.write_params(data)
    folders = {name: Path(name) for name in ("validated", "features", "training")}
    with contextlib.chdir(data):
        inspect_training(schema=Path("schema.json"), **folders, report=Path("reports/i.json"), docs=Path("reports/i"))
    return json.loads((data / "reports/i.json").read_text())


def test_the_quality_gate_stays_open_on_a_warning(data: Path) -> None:
    """A view that is missing too often is reported, and training goes on."""
    lose_a_view(data)
    report = run(data)
    assert report["passed"]
    assert [fault["severity"] for fault in report["tables"]["test"]["failed"]] == ["warning"]
    assert "view missing too often" in (data / "reports/i/index.html").read_text()


def test_the_quality_gate_closes_on_a_lost_row(data: Path) -> None:
    """The stage fails with the rule, an example and what to do next; report and pages are written."""
    lose_a_row(data)
    with pytest.raises(ValidationError, match=r"(?s)gate is closed.*together: lost events.*dvc repro --force join"):
        run(data)
    report = json.loads((data / "reports/i.json").read_text())
    assert not report["passed"]
    (fault,) = (f for f in report["tables"]["together"]["failed"] if f["rule"] == "lost events")
    assert fault["examples"] == [{"files": "train, valid and test", "lost events": 1, "first lost": "0"}]
    assert "The quality gate is closed" in (data / "reports/i/index.html").read_text()
