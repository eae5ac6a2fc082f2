"""The stage `evaluate`: the same test rows for every model, and the same bytes each time."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dvc.api import metrics_show

from models.evaluate import evaluate
from models.evaluation.predict import predict
from models.model_folder import read_model
from tests.support.calibrated import PLATT, calibrated_copy
from tests.support.evaluation import encoded_rows, write_project

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two models, test rows and their truth are ready to be evaluated."""
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


def run_stage(project: Path, out: Path) -> Path:
    """Run the stage in `project`, with everything it writes under `out`; returns `out`."""
    with contextlib.chdir(project):
        evaluate(
            models=[project / "models" / "hinet", project / "models" / "shared_bottom"],
            tensors=project / "tensors",
            truth=project / "truth",
            schema=project / "schema.json",
            out=out / "metrics.json",
            plots_out=out / "plots",
            predictions=out / "predictions",
        )
    return out


@pytest.fixture(scope="module")
def evaluated(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the stage wrote into."""
    return run_stage(project, tmp_path_factory.mktemp("evaluated"))


def test_the_stage_reports_every_model_and_the_limit(evaluated: Path) -> None:
    """Models in the order of the command, the limit last and best; each has its cells and their mean."""
    report = json.loads((evaluated / "metrics.json").read_text())
    assert list(report) == ["hinet", "shared_bottom", "limit"]
    assert report["limit"]["mean_auc"] > max(report["hinet"]["mean_auc"], report["shared_bottom"]["mean_auc"])
    assert {frozenset(measured) for measured in report.values()} == {frozenset({"cells", "mean_auc"})}


def test_the_predictions_are_those_of_the_network(evaluated: Path, project: Path) -> None:
    """The logits in the file are those of the model folder on the test rows, to the bit."""
    test, _ = encoded_rows()
    logits = predict(read_model(project / "models" / "hinet").network, test, "hinet")
    written = pq.read_table(evaluated / "predictions" / "hinet.parquet")
    np.testing.assert_array_equal(written["logit_click"].to_numpy(), logits[:, 0])


def test_the_stage_is_repeatable_to_the_byte(
    evaluated: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same models and rows: the same bytes in every file; at the end the table is printed."""
    run_stage(project, tmp_path)
    assert "best possible" in capsys.readouterr().out
    first, second = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
        for out in (evaluated, tmp_path)
    )
    assert len(first) == 9
    assert first == second


def test_dvc_reads_the_mean_of_every_model(evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc metrics show` lists the mean AUC by model (it passes over lists, so the cells are for the table)."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\nno_scm = true\nanalytics = false\n")
    (tmp_path / "metrics.json").write_bytes((evaluated / "metrics.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    shown = metrics_show("metrics.json")
    assert set(shown) == {"hinet", "shared_bottom", "limit"}
    assert all(isinstance(measured["mean_auc"], float) for measured in shown.values())


def test_a_calibrated_model_has_its_calibration_error_before_and_after(
    evaluated: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics, predictions and diagrams are of calibrated probabilities; ECE and log loss before stand beside them."""
    copied = shutil.copytree(project, tmp_path / "project")
    calibrated_copy(copied / "models" / "hinet", copied / "models" / "hinet", PLATT)
    run_stage(copied, tmp_path)
    plain, report = (json.loads((path / "metrics.json").read_text()) for path in (evaluated, tmp_path))
    assert report["shared_bottom"] == plain["shared_bottom"]
    assert report["hinet"]["mean_auc"] == plain["hinet"]["mean_auc"]
    cells = {f"{cell['scenario']}/{cell['task']}": cell for cell in report["hinet"]["cells"]}
    for before in plain["hinet"]["cells"]:
        cell = cells[f"{before['scenario']}/{before['task']}"]
        assert (cell["uncalibrated_ece"], cell["uncalibrated_logloss"]) == (before["ece"], before["logloss"])
    assert cells["feed/click"]["ece"] != cells["feed/click"]["uncalibrated_ece"]
    assert cells["channel/click"]["ece"] == cells["channel/click"]["uncalibrated_ece"]
    means = {name: np.mean([cell[name] for cell in cells.values()]) for name in ("ece", "uncalibrated_ece")}
    assert report["hinet"]["mean_ece"] == pytest.approx(means["ece"], abs=1e-6)
    assert report["hinet"]["uncalibrated_mean_ece"] == pytest.approx(means["uncalibrated_ece"], abs=1e-6)
    assert f"calibration error {means['ece']:.4f} in the mean" in capsys.readouterr().out
    written, before = (pq.read_table(out / "predictions" / "hinet.parquet") for out in (tmp_path, evaluated))
    feed = np.array(written["scenario"].to_pylist()) == "feed"
    logits = [table["logit_click"].to_numpy()[feed] for table in (written, before)]
    np.testing.assert_allclose(logits[0], 2 * logits[1] + 1, rtol=1e-6)
