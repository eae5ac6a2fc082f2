"""What params.train and the schema say of a run: the network's arguments, the hyperparameters, the loss weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from common.errors import ParameterError
from common.train_params import Train
from features.encoding.encoder import Layout
from features.schema import Schema, Task
from models.model_folder import NETWORKS
from models.training.optim import Recipe


def settings_of(model: str, settings: Train) -> Train:
    """params.train with the recipe of the network called `model`; raises ParameterError on an unknown model."""
    _check_known(model)
    return settings.of_network(model)


def _check_known(model: str) -> None:
    if model not in NETWORKS:
        raise ParameterError(f"--model {model}: expected one of {', '.join(NETWORKS)}")


def arguments_of(model: str, layout: Layout, tasks: Sequence[Task], settings: Train) -> dict[str, Any]:
    """The plain arguments that the network called `model` is built from; see models.model_folder.build_network.

    "data" is the encoder's layout and the outputs of the tasks, "config" the model's own section of params.train.
    Raises ParameterError on an unknown model.
    """
    _check_known(model)
    data = layout.plain() | {"task_outputs": [task.outputs for task in tasks]}
    config = {"embedding_width": settings.embedding_width} | getattr(settings, model).shape()
    return {"data": data, "config": config}


def recipe_of(settings: Train) -> Recipe:
    """The hyperparameters in params.train."""
    return Recipe(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Recipe)})


def cell_weights(schema: Schema, settings: Train) -> torch.Tensor:
    """The lambdas of the loss [M, T]: a task's weight in every scenario; raises ParameterError on an unknown task."""
    unknown = sorted(set(settings.task_weights) - set(schema.task_names))
    if unknown:
        raise ParameterError(f"train.task_weights names {unknown}, but {schema.name} has the tasks {schema.task_names}")
    by_task = [settings.task_weights.get(task, 1.0) for task in schema.task_names]
    return torch.tensor([by_task] * len(schema.scenarios))
