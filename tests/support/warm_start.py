"""A model of the tiny world, and trainings that begin in it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from common import params, stage
from features.encoding.encoder import Encoder
from features.schema import Column, DType, Kind, Role, read_schema
from models.model_folder import build_network
from models.train import train
from models.training.configuration import arguments_of
from models.training.start_columns import Start
from models.training.warm_start import start_from
from tests.support.training import encoded_world, train_settings


def use(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Train with the parameters of the tests and these."""
    changed = params.load().model_copy(update={"train": train_settings(**changes)})
    monkeypatch.setattr(params, "load", lambda: changed)
    monkeypatch.setattr(stage, "threads", lambda: 1)


def write_yesterday(folder: Path) -> dict[str, Path]:
    """The arguments of a training of the tiny world, and the `model` that it made, under `folder`."""
    arguments = encoded_world(folder, rows=900)
    with pytest.MonkeyPatch.context() as patch:
        use(patch, epochs=1)
        train(model="hinet", out=folder / "model", **arguments)
    return {**arguments, "model": folder / "model"}


def today_of(folder: dict[str, Path], model: str = "hinet", **changes: Any) -> Start:
    """What is trained today: as yesterday, with changes of encoder, schema or columns."""
    schema = changes.get("schema", read_schema(folder["schema"]))
    encoder = changes.get("encoder", Encoder.read(folder["encoder"]))
    arguments = arguments_of(model, encoder.layout, schema.tasks, train_settings())
    columns = changes.get("columns", "refuse")
    return Start(model=model, arguments=arguments, schema=schema, encoder=encoder, columns=columns)


def started(folder: Path, today: Start) -> tuple[torch.nn.Module, dict[str, Any]]:
    """A network of today that begins in the model of the folder, and what is said of it."""
    network = build_network(today.model, today.arguments)
    return network, start_from(network, folder, today)


def with_number(encoder: Encoder) -> Encoder:
    """The encoder with the columns in another order, one more id and one more number."""
    added = (
        Column(name="brand", role=Role.FEATURE, dtype=DType.STRING, kind=Kind.CATEGORICAL),
        Column(name="price", role=Role.FEATURE, dtype=DType.FLOAT32, kind=Kind.NUMERIC, nullable=True),
    )
    return dataclasses.replace(
        encoder,
        columns=(*added, *reversed(encoder.columns)),
        vocabularies={"brand": ["a", "b"], **dict(reversed(encoder.vocabularies.items()))},
        scales={**encoder.scales, "price": (0.0, 1.0)},
    )
