"""Stage inspect_tensors: the report of the tensors' quality gate, and its exit."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.errors import ValidationError
from features.inspect_tensors import inspect_tensors
from tests.support import world
from tests.support.damaged_tensors import edit_array, set_value

pytestmark = pytest.mark.integration


@pytest.fixture
def data(project: Path, tmp_path: Path) -> Path:
    """A copy of the tensors of the tiny project, to damage, and of the files that they were made from."""
    for name in ("training", "tensors"):
        shutil.copytree(project / "data" / name, tmp_path / name)
    shutil.copy(project / "data" / "schema.json", tmp_path)
    shutil.copy(project / "artifacts" / "encoder.parquet", tmp_path)
    return tmp_path


def test_a_wrong_value_closes_the_quality_gate(data: Path) -> None:
    """A NaN closes the gate: the message, the report and the page name the input."""
    world.write_params(data)
    edit_array(data, "test", "numeric", set_value((4, 0), np.nan))
    folders = {name: Path(name) for name in ("training", "tensors")}
    with contextlib.chdir(data), pytest.raises(ValidationError, match=r"test: not finite.*user_impressions_7d"):
        inspect_tensors(
            schema=Path("schema.json"),
            encoder=Path("encoder.parquet"),
            **folders,
            report=Path("i.json"),
            docs=Path("i"),
        )
    (fault,) = json.loads((data / "i.json").read_text())["tables"]["test"]["failed"]
    assert fault["examples"] == [{"input": "user_impressions_7d", "not finite": 1}]
    assert "user_impressions_7d" in (data / "i" / "index.html").read_text()
