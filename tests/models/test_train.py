"""The stage `train`: from tensors on disk to a model folder, the same bytes each time."""

import json
from pathlib import Path

import pytest
import torch

from common import params, stage
from common.errors import ParameterError
from models.model_folder import CALIBRATION, NETWORKS, read_model
from models.train import train
from tests.support import world
from tests.support.training import encoded_world, train_settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("one_thread")]
SCHEMA = world.schema()


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The arguments of the stage: the tiny world encoded, two thirds of it for training."""
    changed = params.load().model_copy(update={"train": train_settings()})
    monkeypatch.setattr(params, "load", lambda: changed)
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return encoded_world(tmp_path, rows=1500)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stage_writes_a_model_that_can_be_read(paths: dict[str, Path], tmp_path: Path, name: str) -> None:
    """The folder holds the network of the best epoch, and the summary and curves say which that was."""
    train(model=name, out=tmp_path / "out", **paths)
    model = read_model(tmp_path / "out")
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert [epoch["epoch"] for epoch in curves] == [1, 2]
    assert set(curves[0]["cells"]) == {f"{s}/{t}" for s in SCHEMA.scenarios for t in SCHEMA.task_names}
    best = max(curves, key=lambda epoch: epoch["valid_mean_auc"])
    assert model.summary["best_epoch"] == best["epoch"]
    assert model.summary["valid_mean_auc"] == best["valid_mean_auc"]
    assert model.summary["parameters"] == sum(p.numel() for p in model.network.parameters())


def test_the_same_inputs_make_the_same_bytes(paths: dict[str, Path], tmp_path: Path) -> None:
    """Two runs of the stage write the same files to the byte."""
    for name in ("one", "two"):
        train(model="hinet", out=tmp_path / name, **paths)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert first == second


def test_a_cell_with_one_class_is_null_in_the_curves(paths: dict[str, Path], tmp_path: Path) -> None:
    """Where a cell has no AUC the stage warns, and the curves hold null, never NaN."""
    few = tmp_path / "few"
    few.mkdir()
    with pytest.warns(UserWarning, match="channel/order; the mean AUC leaves them out"):
        train(model="shared_bottom", out=few / "out", **encoded_world(few, rows=300))
    assert json.loads((few / "out" / "curves.json").read_text())[0]["cells"]["channel/order"] is None


def test_torch_has_the_threads_of_the_process(paths: dict[str, Path], tmp_path: Path) -> None:
    """The stage uses as many threads as the process may use cores."""
    train(model="shared_bottom", out=tmp_path / "out", **paths)
    assert torch.get_num_threads() == 1


def test_an_unknown_model_is_refused(paths: dict[str, Path], tmp_path: Path) -> None:
    """The error names the networks there are, and nothing is written."""
    with pytest.raises(ParameterError, match="--model resnet: expected one of hinet, hinet_plus, shared_bottom"):
        train(model="resnet", out=tmp_path / "out", **paths)
    assert not (tmp_path / "out").exists()


def test_a_calibration_is_one_file_more(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and curves are those without it; the summary says which cells it left out, and the profile has it."""
    kind = "isotonic"
    train(model="shared_bottom", out=tmp_path / "none", **paths)
    changed = params.load().model_copy(update={"train": train_settings(calibration=kind)})
    monkeypatch.setattr(params, "load", lambda: changed)
    train(model="shared_bottom", out=tmp_path / kind, **paths)
    none, model = read_model(tmp_path / "none"), read_model(tmp_path / kind)
    assert not (tmp_path / "none" / CALIBRATION).exists()
    assert none.weights_sha256 == model.weights_sha256
    assert model.calibration is not None
    summary, by_cell = model.summary["calibration"], model.calibration.by_cell
    assert none.summary == {name: value for name, value in model.summary.items() if name != "calibration"}
    assert summary["kind"] == kind
    assert sorted(by_cell) == sorted(f"{s}/{t}" for s in SCHEMA.scenarios for t in SCHEMA.task_names)
    mapped = [cell for cell, what in by_cell.items() if what == kind]
    assert summary["cells"] == len(mapped) > 0
    assert set(summary["uncalibrated"]) == set(by_cell) - set(mapped) != set()
    for cell in mapped:
        held = json.loads((tmp_path / kind / "behaviour.json").read_text())["scores"][cell]
        assert held["expected"] == pytest.approx(held["positives"], rel=0.05), "on the rows that it was fitted on"


def test_embeddings_are_rounded_when_the_training_is_over(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With train.embedding_precision bfloat16 all weights but the embeddings, and the curves, are those of float32."""
    train(model="shared_bottom", out=tmp_path / "plain", **paths)
    settings = params.load()
    rounded = settings.model_copy(
        update={"train": settings.train.model_copy(update={"embedding_precision": "bfloat16"})}
    )
    monkeypatch.setattr(params, "load", lambda *_: rounded)
    train(model="shared_bottom", out=tmp_path / "rounded", **paths)
    one, two = (read_model(tmp_path / name).network.state_dict() for name in ("plain", "rounded"))
    assert torch.equal(one.pop("embedding.weight").bfloat16(), two.pop("embedding.weight"))
    assert all(torch.equal(weights, two[name]) for name, weights in one.items())
    curves = [(tmp_path / name / "curves.json").read_text() for name in ("plain", "rounded")]
    assert curves[0] == curves[1]
