"""Rows with planted structure, small networks and hyperparameters for the tests of training."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from common import params
from common.train_params import Train
from features.encoding.fitting import fit_encoder
from features.encoding.histogram_counts import fit_reference
from features.encoding.tensors import Tensors, write_tensors
from features.schema import inputs, to_json
from models.networks.data_spec import DataSpec
from models.networks.hinet import HiNet, HiNetConfig
from models.training.device import make_deterministic
from models.training.loop import FitResult, fit
from models.training.optim import Recipe
from tests.support import world

SCENARIOS, TASKS = ("here", "there"), ("click", "like")
DATA = DataSpec(
    table_rows=(5, 3),
    categorical_tables=(0, 1),
    bag_tables=(0,),
    bag_lengths=(2,),
    numeric=1,
    scenarios=2,
    task_outputs=(1, 1),
)
RECIPE = Recipe(
    seed=1,
    epochs=3,
    patience=3,
    batch_size=128,
    learning_rate=0.01,
    embedding_weight_decay=0.0,
    weight_decay=0.0,
    average=0.9,
    unknown_share=0.0,
)


def opposite_rows(rows: int, seed: int) -> Tensors:
    """Two scenarios with opposite click rates, and a task for which both have the same.

    Items 1 and 2 are of one kind, 3 and 4 of the other. `here` clicks with 0.8 on the first kind and 0.2 on the
    second, `there` the reverse; both like the first kind with 0.8. No input names the scenario. The best AUC of
    every cell is 0.8 * 0.8 + (0.8 * 0.2 + 0.2 * 0.8) / 2 = 0.80.
    """
    random = np.random.default_rng(seed)
    item, scenario = random.integers(1, 5, rows), random.integers(0, 2, rows)
    first = item <= 2
    chance = np.stack([np.where(first == (scenario == 0), 0.8, 0.2), np.where(first, 0.8, 0.2)], axis=1)
    return Tensors(
        categorical=np.stack([item, random.integers(1, 3, rows)], axis=1).astype("int32"),
        bags=random.integers(-1, 5, (rows, 2)).astype("int32"),
        numeric=random.normal(size=(rows, 1)).astype("float32"),
        scenario=scenario.astype("int32"),
        labels=(random.random((rows, 2)) < chance).astype("float32"),
        event_id=np.arange(rows),
        user=np.arange(rows),
    )


def small_hinet(seed: int = 1) -> HiNet:
    """A small HiNet for `opposite_rows`, with weights of this seed."""
    make_deterministic(seed)
    config = HiNetConfig(
        embedding_width=4,
        sub_experts=2,
        expert_units=(16, 8),
        task_experts=1,
        shared_experts=1,
        task_expert_units=(8,),
        tower_units=(8,),
        scenario_width=4,
    )
    return HiNet(DATA, config)


def fitted(network: nn.Module, recipe: Recipe = RECIPE, rows: int = 1000, **others: Any) -> FitResult:
    """The result of training `network` on `opposite_rows`."""
    train, valid = opposite_rows(rows, 0), opposite_rows(800, 1)
    return fit(network, train, valid, recipe, **{"scenarios": SCENARIOS, "tasks": TASKS, "device": "cpu", **others})


def recipe_with(recipe: Recipe = RECIPE, **fields: Any) -> Recipe:
    """The recipe with other values."""
    return Recipe(**{**vars(recipe), **fields})


def with_columns(tensors: Tensors, **columns: np.ndarray) -> Tensors:
    """The rows with other columns."""
    return Tensors(**{**vars(tensors), **columns})


def logits_of(network: nn.Module, rows: Tensors) -> np.ndarray:
    """The network's logits of the rows [N, T]."""
    columns = (rows.categorical, rows.bags, rows.numeric, rows.scenario)
    with torch.no_grad():
        return network.eval()(*(torch.from_numpy(column) for column in columns)).numpy()


def train_settings(**changes: Any) -> Train:
    """params.train of the project with other values: small, on the CPU."""
    return params.load().train.model_copy(update={"epochs": 2, "batch_size": 64, "device": "cpu", **changes})


def encoded_world(folder: Path, rows: int) -> dict[str, Path]:
    """The arguments of the stage `train` for a tiny world with so many rows, two thirds of them training rows.

    Writes schema.json, views.json, encoder.parquet, reference.json, train.parquet, valid.parquet and tensors into
    `folder`.
    """
    schema, events = world.schema(), world.tables(rows=rows)["events"]
    for name, part in (("train", events[: rows * 2 // 3]), ("valid", events[rows * 2 // 3 :])):
        pq.write_table(pa.Table.from_pandas(part, preserve_index=False), folder / f"{name}.parquet")
    encoder = fit_encoder(schema, inputs(schema, ()), folder / "train.parquet", 1)
    for name in ("train", "valid"):
        write_tensors(encoder, schema, folder / f"{name}.parquet", folder / "tensors" / name)
    encoder.write(folder / "encoder.parquet")
    (folder / "schema.json").write_text(to_json(schema))
    (folder / "views.json").write_text(to_json(()))
    fit_reference(folder / "train.parquet", schema, encoder).write(folder / "reference.json")
    files = {name: folder / f"{name}.json" for name in ("schema", "views", "reference")}
    files["encoder"] = folder / "encoder.parquet"
    return {**files, "training": folder, "tensors": folder / "tensors"}
