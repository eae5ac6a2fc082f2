"""The stage that trains: from tensors on disk to a model folder, the same bytes each time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common import params, stage
from common.errors import ParameterError
from features.encoding.encoder import Encoder
from features.encoding.histograms import fit_reference
from features.encoding.tensors import write_tensors
from features.schema import inputs, to_json
from models.model_folder import NETWORKS, read_model
from models.train import arguments_of, cell_weights, recipe_of, train
from tests.support import travel_log, world

SCHEMA = world.schema()
SETTINGS = params.load()


def settings(**changes: Any) -> params.Train:
    """params.train with other values."""
    return SETTINGS.train.model_copy(update={"epochs": 2, "batch_size": 64, "device": "cpu", **changes})


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Torch's threads and settings as they were, afterwards."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """What the stage is given: the tiny world encoded, two thirds of it for training."""
    monkeypatch.setattr(params, "load", lambda: SETTINGS.model_copy(update={"train": settings()}))
    monkeypatch.setattr(stage, "threads", lambda: 1)
    return encoded(tmp_path, rows=1500)


def encoded(tmp_path: Path, rows: int) -> dict[str, Path]:
    """schema.json, views.json, encoder.json and tensors of a tiny world with so many rows."""
    events = world.tables(rows=rows)["events"]
    for name, part in (("train", events[: rows * 2 // 3]), ("valid", events[rows * 2 // 3 :])):
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), tmp_path / f"{name}.parquet")
    encoder = Encoder.fit(SCHEMA, inputs(SCHEMA, ()), tmp_path / "train.parquet", 1)
    for name in ("train", "valid"):
        write_tensors(encoder, SCHEMA, tmp_path / f"{name}.parquet", tmp_path / "tensors" / name)
    encoder.write(tmp_path / "encoder.json")
    (tmp_path / "schema.json").write_text(to_json(SCHEMA))
    (tmp_path / "views.json").write_text(to_json(()))
    fit_reference(tmp_path / "train.parquet", SCHEMA, encoder).write(tmp_path / "reference.json")
    files = {name: tmp_path / f"{name}.json" for name in ("schema", "views", "encoder", "reference")}
    return {**files, "tensors": tmp_path / "tensors"}


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
    """Where a cell cannot be judged the stage warns, and the curves hold null, never NaN."""
    few = tmp_path / "few"
    few.mkdir()
    with pytest.warns(UserWarning, match="channel/order; the mean AUC leaves them out"):
        train(model="shared_bottom", out=few / "out", **encoded(few, rows=300))
    assert json.loads((few / "out" / "curves.json").read_text())[0]["cells"]["channel/order"] is None


def test_torch_is_left_with_the_threads_of_the_process(paths: dict[str, Path], tmp_path: Path) -> None:
    """The stage takes as many threads as it may use cores."""
    train(model="shared_bottom", out=tmp_path / "out", **paths)
    assert torch.get_num_threads() == 1


def test_a_model_without_a_network_is_refused(paths: dict[str, Path], tmp_path: Path) -> None:
    """The error names the networks there are, and nothing is written."""
    with pytest.raises(ParameterError, match="--model resnet: expected one of hinet, shared_bottom"):
        train(model="resnet", out=tmp_path / "out", **paths)
    assert not (tmp_path / "out").exists()


def test_arguments_are_the_rows_and_the_models_own_section(paths: dict[str, Path]) -> None:
    """Every network takes the shape of the rows and its section of params.train, and nothing else."""
    layout = Encoder.read(paths["encoder"]).layout
    arguments = arguments_of("shared_bottom", layout, world.schema().tasks, settings())
    shape = {"table_rows", "categorical_tables", "bag_tables", "bag_lengths", "numeric", "scenarios"}
    assert set(arguments) == shape | {"tasks", "embedding_width", "bottom_units", "tower_units"}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_a_logit_for_every_class(paths: dict[str, Path], name: str) -> None:
    """Classes of 3 and 4 and two choices: nine logits, in the scenario of the row."""
    layout = Encoder.read(paths["encoder"]).layout
    network = NETWORKS[name](**arguments_of(name, layout, travel_log.schema().tasks, settings()))
    columns, lists = len(layout.categorical_tables), sum(layout.bag_lengths)
    rows = (torch.zeros(5, columns).int(), torch.zeros(5, lists).int(), torch.zeros(5, layout.numeric))
    assert network(*rows, torch.arange(5).int() % layout.scenarios).shape == (5, 9)


def test_the_recipe_is_what_params_say() -> None:
    """Each field of the recipe has the value of the parameter of the same name."""
    recipe = recipe_of(settings(average=0.5))
    assert recipe.average == 0.5
    assert all(value == getattr(settings(average=0.5), name) for name, value in vars(recipe).items())


def test_weights_of_tasks_are_lambdas_of_every_scenario() -> None:
    """A task's weight holds in each scenario, 1 where none is given; a task that is not there is refused."""
    found = cell_weights(SCHEMA, settings(task_weights={"order": 2.5}))
    assert found.tolist() == [[1.0, 2.5]] * 3
    with pytest.raises(ParameterError, match=r"train\.task_weights names \['oder'\]"):
        cell_weights(SCHEMA, settings(task_weights={"oder": 2.5}))
