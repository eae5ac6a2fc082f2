"""The answer of GET /model: metrics of the kept epoch, and a 503 while the files are replaced."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from serving.http.model_info import describe_model
from serving.http.problem_details import ProblemError
from tests.support import tiny_project

pytestmark = pytest.mark.integration


def test_the_metrics_are_those_of_the_kept_epoch(project: Path, tmp_path: Path) -> None:
    """By scenario and task on the validation rows; while another model replaces the files it is a 503."""
    folder, limits = (
        shutil.copytree(project / tiny_project.MODEL, tmp_path / "model"),
        tiny_project.with_read_timeout(project).limits,
    )
    (folder / "curves.json").write_text(json.dumps([{"epoch": n, "cells": {"feed/click": n / 10}} for n in (1, 2, 3)]))
    document = json.loads((folder / "model.json").read_text()) | {"summary": {"best_epoch": 2}}
    (folder / "model.json").write_text(json.dumps(document))
    loaded = tiny_project.ranker(project, tmp_path / "registry.db").loaded
    loaded = dataclasses.replace(loaded, sources=dataclasses.replace(loaded.sources, model=folder))
    assert describe_model(loaded, limits)["metrics"] == {"feed/click": 0.2}
    (folder / "model.json").write_text(json.dumps(document | {"sha256": {"weights.safetensors": "other"}}))
    with pytest.raises(ProblemError, match="another model is being read"):
        describe_model(loaded, limits)
