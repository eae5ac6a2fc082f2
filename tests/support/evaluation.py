"""Encoded rows with known probabilities, a small HiNet for them, and a folder of models to evaluate."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from common.params import Evaluate
from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import View, inputs, to_json
from models.model_folder import build_network, write_model
from models.networks.hinet import HiNet
from tests.support import world

SCHEMA = world.schema()
SETTINGS = Evaluate(bins=5, confidence=0.95)
VIEWS = (View(name="item", keys=("item_id",), columns=SCHEMA.profile("items")),)
ENCODER = Encoder(
    "scenario",
    SCHEMA.scenarios,
    inputs(SCHEMA, VIEWS),
    vocabularies={name: list(range(4)) for name in ("user_id", "item_id", "scenario", "hour", "tags")},
    scales={"price": (0.0, 1.0)},
)
DATA = dataclasses.asdict(ENCODER.layout) | {"task_outputs": (1, 1)}
HINET: dict[str, Any] = {
    "embedding_width": 4,
    "sub_experts": 2,
    "expert_units": (8, 4),
    "task_experts": 2,
    "shared_experts": 1,
    "task_expert_units": (4,),
    "tower_units": (4,),
    "scenario_width": 3,
}
SHARED_BOTTOM: dict[str, Any] = {"embedding_width": 4, "bottom_units": (8,), "tower_units": (4,)}
CURVES = [
    {
        "epoch": number,
        "train_loss": 0.3,
        "valid_loss": 0.4,
        "valid_mean_auc": 0.7,
        "cells": {f"{s}/{t}": 0.7 for s in SCHEMA.scenarios for t in SCHEMA.task_names} | {"feed/order": None},
    }
    for number in (1, 2)
]


def small_hinet(*, seed: int = 0) -> HiNet:
    """A small HiNet for `encoded_rows`."""
    torch.manual_seed(seed)
    network = build_network("hinet", {"data": DATA, "config": HINET}).eval()
    assert isinstance(network, HiNet)
    return network


def encoded_rows(*, count: int = 600, seed: int = 0) -> tuple[Tensors, np.ndarray]:
    """Encoded rows in three scenarios, and the true probabilities of their labels [N, 2]."""
    random = np.random.default_rng(seed)
    truth = np.cumprod(random.uniform(0.05, 0.9, (count, 2)), axis=1)
    labels = (random.random((count, 1)) < truth).astype(np.float32)
    encoded = Tensors(
        categorical=random.integers(0, 5, (count, 4), dtype=np.int32),
        bags=random.integers(-1, 5, (count, 3), dtype=np.int32),
        numeric=random.normal(size=(count, 2)).astype(np.float32),
        scenario=random.integers(0, 3, count, dtype=np.int32),
        labels=labels,
        event_id=1000 + np.arange(count),
        user=random.integers(0, 40, count),
    )
    return encoded, truth


def write_truth(folder: Path, test: Tensors, truth: np.ndarray, *, order: np.ndarray) -> None:
    """Write truth.parquet with these of the rows, in this order."""
    columns = {f"p_{task}": truth[order, column] for column, task in enumerate(SCHEMA.task_names)}
    pq.write_table(pa.table({"event_id": test.event_id[order], **columns}), folder / "truth.parquet")


def write_project(folder: Path) -> None:
    """Write params.yaml, two models, the test rows and their truth: what the stage `evaluate` reads."""
    world.write_params(folder)
    for name, declared in (("schema", SCHEMA), ("views", VIEWS)):
        (folder / f"{name}.json").write_text(to_json(declared))
    ENCODER.write(folder / "encoder.parquet")
    test, truth = encoded_rows()
    (folder / "tensors" / "test").mkdir(parents=True)
    for name, column in vars(test).items():
        if column is not None:  # a schema without a choice has no choice_set
            np.save(folder / "tensors" / "test" / f"{name}.npy", column)
    (folder / "truth").mkdir()
    write_truth(folder / "truth", test, truth, order=np.arange(600))
    torch.manual_seed(0)
    for name, config in (("hinet", HINET), ("shared_bottom", SHARED_BOTTOM)):
        arguments = {"data": DATA, "config": config}
        write_model(
            folder / "models" / name,
            model_name=name,
            network=build_network(name, arguments),
            arguments=arguments,
            summary={},
            curves=CURVES,
            profile={},
            schema=folder / "schema.json",
            views=folder / "views.json",
            encoder=folder / "encoder.parquet",
            reference=folder / "schema.json",
        )
