"""The commands of docs/how-to/warm-start.md in a small project, with DVC's own word on what is out of date."""

import json
import shutil
from pathlib import Path

import pytest

from common.paths import ROOT
from tests.support.dvc_project import training_project, typed

pytestmark = [pytest.mark.process, pytest.mark.slow]
CHAMPION = "artifacts/releases/champion/model"
TRAIN, STATUS = "dvc repro train@hinet_plus", "dvc status train@hinet_plus"


def test_another_model_puts_the_training_out_of_date(tmp_path: Path) -> None:
    """The page's command begins in the champion; then DVC is up to date, until another model lies in its place."""
    project = training_project(tmp_path)
    typed(TRAIN, project)
    shutil.copytree(project / "artifacts/models/hinet_plus", project / CHAMPION)
    command = f"dvc exp run -S train.warm_start={CHAMPION}"
    assert command in (ROOT / "docs" / "how-to" / "warm-start.md").read_text()
    typed(f"{command} train@hinet_plus", project)
    champion = json.loads((project / CHAMPION / "model.json").read_text())
    said = json.loads((project / "artifacts/models/hinet_plus/model.json").read_text())["summary"]
    assert said["warm_start"]["tag"] == champion["sha256"]["weights.safetensors"][:12]
    assert said["epochs"] == 1
    assert "up to date" in typed(STATUS, project)
    shutil.rmtree(project / CHAMPION)
    shutil.copytree(project / "artifacts/models/hinet_plus", project / CHAMPION)
    assert "modified:" in (status := typed(STATUS, project))
    assert CHAMPION in status
    typed(TRAIN, project)
    again = json.loads((project / "artifacts/models/hinet_plus/model.json").read_text())
    assert again["summary"]["warm_start"]["tag"] != said["warm_start"]["tag"]
