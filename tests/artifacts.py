"""The tiny world after the whole pipeline: what the service reads, laid out as in the root of the project."""

import contextlib
from pathlib import Path

import torch
import world

import params
from features.encode import Encoder, encode
from features.join import join
from features.materialize import materialize
from models.folder import NETWORKS, write_model
from models.train import arguments_of

MODEL, ONLINE = Path("artifacts/models/hinet"), Path("artifacts/online.db")


def build(root: Path, *, rows: int = 600, **changes: object) -> Path:
    """Every stage from validated events to a model of random weights, under `root`; returns it."""
    data, artifacts = root / "data", root / "artifacts"
    data.mkdir(parents=True)
    world.write_features(data, world.tables(rows=rows))
    world.write_params(root, encode__minimum_count=2, **changes)
    features, views, schema = data / "features", data / "features" / "views.json", data / "schema.json"
    materialize(schema=schema, features=features, online=root / ONLINE)
    with contextlib.chdir(root):
        join(schema=schema, validated=data / "validated", features=features, out=data / "training")
        encode(
            schema=schema, views=views, training=data / "training", encoder=artifacts / "encoder.json",
            out=data / "tensors",
        )  # fmt: skip
        write_random_model(root / MODEL, schema=schema, views=views, encoder=artifacts / "encoder.json")
    return root


def write_random_model(folder: Path, *, schema: Path, views: Path, encoder: Path, seed: int = 0) -> None:
    """A HiNet of random weights, large enough that its probabilities differ."""
    layout, settings = Encoder.read(encoder).layout, params.load().train
    tasks = len(world.schema().tasks)
    arguments = arguments_of("hinet", layout, tasks, settings)
    torch.manual_seed(seed)
    network = NETWORKS["hinet"](**arguments)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    write_model(
        folder, model_name="hinet", network=network, arguments=arguments, summary={}, curves=[], schema=schema,
        views=views, encoder=encoder,
    )  # fmt: skip
