"""Stage: fits a network to the encoded training rows and writes the model folder of its best epoch."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import params, stage
from common.errors import ParameterError
from common.params import Train
from features.encoding.encoder import Encoder, Layout
from features.encoding.tensors import open_tensors
from features.schema import Schema, Task, mean_title, read_schema
from models.evaluation.reference_profile import behaviour_of
from models.model_folder import NETWORKS, write_model
from models.training import distributed
from models.training.checkpoint import Checkpoint, key_of
from models.training.loop import Fitted, choose, denormals_flushed, fit, repeatable
from models.training.optim import Recipe
from models.training.train_state import Epoch


def train(
    *,
    model: str,
    schema: Path,
    views: Path,
    encoder: Path,
    reference: Path,
    tensors: Path,
    out: Path,
    checkpoints: Path | None = None,
) -> None:
    """Fit the network called `model` and write it to the model folder `out`, curves and all.

    A run that was killed goes on from its file in the folder `checkpoints`, which is removed when the model is written.
    """
    settings = params.load().train
    copied = {"schema": schema, "views": views, "encoder": encoder, "reference": reference}
    if settings.processes > 1 and not distributed.asked():
        given = {"model": model, **copied, "tensors": tensors, "out": out, "checkpoints": checkpoints}
        distributed.launch(train, settings.processes, given)
        return
    declared = read_schema(schema)
    fitted_encoder = Encoder.read(encoder)
    arguments = arguments_of(model, fitted_encoder.layout, declared.tasks, settings)
    with denormals_flushed(), distributed.joined(choose(settings.device)) as group:
        torch.set_num_threads(max(1, stage.threads() // distributed.neighbours()))
        repeatable(settings.seed)
        network = NETWORKS[model](**arguments)
        facts = {"model": model, "arguments": arguments, "schema": declared.fingerprint(), "processes": group.size}
        checkpoint = checkpoint_of(checkpoints / model, facts, tensors, settings) if checkpoints else None
        fitted = _fitted(network, tensors, declared, settings, checkpoint=checkpoint, group=group)
        if not group.first:
            return
        behaviour = behaviour_of(network.cpu(), open_tensors(tensors / "valid"), fitted_encoder, declared)
        write_model(
            out,
            model_name=model,
            network=network,
            arguments=arguments,
            summary=_summary(network, fitted, settings),
            curves=curves_of(fitted, declared),
            behaviour=behaviour,
            **copied,
        )
        if checkpoint is not None:
            checkpoint.remove()
    best = fitted.best
    mean = mean_title(declared.tasks)
    print(f"{model}: epoch {best.number} is best, validation {mean} {best.valid_mean_auc:.4f}", flush=True)


def _fitted(network: torch.nn.Module, tensors: Path, schema: Schema, settings: Train, **others: Any) -> Fitted:
    return fit(
        network,
        open_tensors(tensors / "train"),
        open_tensors(tensors / "valid"),
        recipe_of(settings),
        scenarios=schema.scenarios,
        tasks=schema.tasks,
        cell_weights=cell_weights(schema, settings),
        device=settings.device,
        **others,
    )


def checkpoint_of(folder: Path, facts: dict[str, Any], tensors: Path, settings: Train) -> Checkpoint:
    """The checkpoint of the run that is made of these facts, rows and parameters, and of none other."""
    parameters = settings.model_dump(exclude={"checkpoint_seconds", "processes"})
    device = choose(settings.device).type
    files = [path for split in ("train", "valid") for path in sorted((tensors / split).glob("*.npy"))]
    key = key_of({**facts, "parameters": parameters, "device": device}, files)
    return Checkpoint(folder, key, settings.checkpoint_seconds)


def arguments_of(model: str, layout: Layout, tasks: Sequence[Task], settings: Train) -> dict[str, Any]:
    """The arguments of the network's constructor: the shape of the rows, then its own section of params.train.

    What each task has for outputs is told where one has several.
    """
    if model not in NETWORKS:
        raise ParameterError(f"--model {model}: expected one of {', '.join(NETWORKS)}")
    rows = dataclasses.asdict(layout) | {"tasks": len(tasks), "embedding_width": settings.embedding_width}
    outputs = [task.outputs for task in tasks]
    if max(outputs) > 1:
        rows["task_outputs"] = outputs
    return rows | getattr(settings, model).model_dump()


def recipe_of(settings: Train) -> Recipe:
    """What params.train says of the optimisation."""
    return Recipe(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(Recipe)})


def cell_weights(schema: Schema, settings: Train) -> torch.Tensor:
    """The lambdas of the loss [M, T]: a task's weight in every scenario; raises ParameterError on an unknown task."""
    unknown = sorted(set(settings.task_weights) - set(schema.task_names))
    if unknown:
        raise ParameterError(f"train.task_weights names {unknown}, but {schema.name} has the tasks {schema.task_names}")
    by_task = [settings.task_weights.get(task, 1.0) for task in schema.task_names]
    return torch.tensor([by_task] * len(schema.scenarios))


def curves_of(fitted: Fitted, schema: Schema) -> list[dict[str, Any]]:
    """Per epoch: losses, mean AUC, and `cells` {"scenario/task": AUC, null where a class is missing}."""
    return [
        {
            "epoch": epoch.number,
            "train_loss": epoch.train_loss,
            "valid_loss": epoch.valid_loss,
            "valid_mean_auc": epoch.valid_mean_auc,
            "cells": _cells(epoch, schema.scenarios, schema.task_names),
        }
        for epoch in fitted.epochs
    ]


def _cells(epoch: Epoch, scenarios: Sequence[str], tasks: Sequence[str]) -> dict[str, float | None]:
    names = [f"{scenario}/{task}" for scenario in scenarios for task in tasks]
    values = [None if np.isnan(auc) else float(auc) for auc in epoch.valid_auc.flat]
    return dict(zip(names, values, strict=True))


def _summary(network: torch.nn.Module, fitted: Fitted, settings: Train) -> dict[str, Any]:
    return {
        "seed": settings.seed,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "epochs": len(fitted.epochs),
        "best_epoch": fitted.best.number,
        "valid_mean_auc": fitted.best.valid_mean_auc,
    }


if __name__ == "__main__":
    stage.run(train)
