"""A training that begins where another one ended: the weights of a model folder, mapped onto today's data.

A day later the vocabularies are others. An id that both know keeps its embedding, a new one begins as the unknown row
of its table, one that has vanished is dropped. All other weights are taken as they are, if the columns, tasks and
scenarios are those of the model. Other columns can be mapped by name: what reads a new one begins at 0, so that the
network begins as the function that it was.

Scales of numbers are left: the network reads standard deviations from today's mean, as it always did. Folding the
difference of two scales into the first layers is not possible in general: gates have no constant that could take the
shift, a missing number is 0 whatever the mean, and clipped numbers are clipped elsewhere. Scales that moved by more
than MOVED are named in the summary.

Not in a model folder, and so begun anew: the state of the optimizer, the moving average of the weights (the folder's
weights are that average), and the bias of positions.
"""

import dataclasses
import datetime
import json
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import ParameterError, TrainingError
from common.paths import FROM_NOTHING
from common.stored_files import read_table
from features.encoding.encoder import Encoder
from features.schema import Schema, Task
from models.model_folder import LAST_DAY, MODEL, NETWORKS, Model, last_day, read_arguments, read_model
from models.networks.feature_embedding import FeatureEmbedding
from models.training.optim import Recipe
from models.training.start_columns import Start, column_changes, map_columns
from models.training.start_ids import count_ids, map_ids

MOVED = 0.1  # standard deviations, or relative change of one, from which a scale is named


def start_folder(folder: Path | None) -> Path | None:
    """The folder of the model in which a training begins, None where it begins with new weights.

    That is where `folder` is None, or holds the file `from_nothing`. Raises TrainingError where it holds both that file
    and a model.
    """
    if folder is None or not (folder / FROM_NOTHING).exists():
        return folder
    if (folder / MODEL).exists():
        raise TrainingError(
            f"train.warm_start is {folder}, which holds a model and the file {FROM_NOTHING}: which of them is meant? "
            "Remove one, or set train.warm_start to a folder that holds nothing but the model"
        )
    return None


def start_from(network: nn.Module, folder: Path, today: Start) -> dict[str, Any]:
    """Give the network the weights of the model in `folder`; returns what was mapped, for the summary of the new model.

    Raises ModelError where the folder holds no whole model, TrainingError where the model is of another network, other
    sizes, another data set, other tasks, scenarios or (without `map`) columns.
    """
    model, arguments = read_model(folder), read_arguments(folder)
    _check_network(folder, model, arguments, today)
    changes = column_changes(model.encoder, today.encoder)
    _check_schema(folder, model, changes, today)
    old, new = model.network.state_dict(), network.state_dict()
    embeddings = {f"{name}.weight" if name else "weight": part for name, part in _embeddings(network)}
    with torch.no_grad():
        if changes:
            mapped = map_columns(old, new, model.encoder, today)
        else:
            mapped = {name: weights for name, weights in old.items() if name not in embeddings}
        for name in embeddings:
            mapped[name] = map_ids(old[name], new[name], model.encoder, today.encoder)
        _check_shapes(new, mapped, today.model)
        network.load_state_dict(mapped)
    return {
        "tag": model.tag,
        "ids": count_ids(model.encoder, today.encoder),
        "moved_scales": moved_scales(model.encoder, today.encoder),
        **({"columns": changes} if changes else {}),
    }


def final_day(recipe: Recipe, training: Path | None, schema: Schema) -> dict[str, str]:
    """The last day of the rows of the recipe's last pass, for the summary of the model; nothing without such a pass."""
    if not recipe.final_learning_rate:
        return {}
    if training is None:
        raise ParameterError(
            "train.final_learning_rate needs --training, the folder of valid.parquet, for the last day of its rows"
        )
    return {LAST_DAY: days_of(training / "valid.parquet", schema)[1].isoformat()}


def days_of(rows: Path, schema: Schema) -> tuple[datetime.date, datetime.date]:
    """The days (UTC) of the first and the last impression of a Parquet file."""
    timestamps = read_table(rows, [schema.timestamp])[schema.timestamp]
    ends = pc.min_max(timestamps).as_py()
    return ends["min"].date(), ends["max"].date()


def check_unseen(folder: Path, first_valid_day: datetime.date) -> None:
    """Raise TrainingError where the model in `folder` has learned from rows of validation days.

    The epoch would be chosen by rows that the network knows. A split at random does this, and a log whose end was put
    back.
    """
    last = last_day(folder)
    if last > first_valid_day:
        raise TrainingError(
            f"train.warm_start is {folder}, which has learned from rows until {last}, but the validation rows begin on "
            f"{first_valid_day}: expected validation rows that the model has not learned from. Set join.split to time, "
            "or begin with an older model"
        )


def start_key(folder: Path | None) -> dict[str, Any]:
    """The checksums of the model in `folder`, for the key of a checkpoint; nothing without a model."""
    if folder is None:
        return {}
    plain = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    return {"warm_start": plain["sha256"] | {"schema": plain["schema"]}}


def _check_network(folder: Path, model: Model, arguments: Mapping[str, Any], today: Start) -> None:
    if model.name != today.model:
        raise TrainingError(
            f"train.warm_start is {folder}, which holds a {model.name}, but a {today.model} is trained: expected a "
            "model of the same network; name another folder, or begin from nothing"
        )
    before, after = (_whole_config(today.model, one["config"]) for one in (arguments, today.arguments))
    for name, old in before.items():
        if old != (new := after[name]):
            section = "train" if name == "embedding_width" else f"train.{model.name}"
            raise TrainingError(
                f"train.warm_start is {folder}, whose {model.name} has {name} {old}, but {section}.{name} is {new}: "
                "expected the same sizes; set it to the model's, or begin from nothing"
            )


def _whole_config(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a network with the defaults of options that a model of an older version does not have."""
    config_class = pkgutil.resolve_name(NETWORKS[model]).config_class
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config_class(**config))))
    return plain


def _check_schema(folder: Path, model: Model, changes: Mapping[str, list[str]], today: Start) -> None:
    reasons = [*_differences(model.schema, today.schema), *_floor_differences(model.encoder, today.encoder)]
    if reasons:
        raise TrainingError(
            f"train.warm_start is {folder}, which does not fit the data: {'; '.join(reasons)}. Expected the data set, "
            "tasks and scenarios of the model; begin from nothing"
        )
    if changes and today.columns == "refuse":
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in changes.items())
        raise TrainingError(
            f"train.warm_start is {folder}, whose input columns are others ({listed}): expected the same; set "
            "train.warm_start_columns to map, which takes over what is common, or begin from nothing"
        )


def _differences(old: Schema, new: Schema) -> Iterator[str]:
    """What data set, tasks and scenarios of two schemas do not have in common."""
    if old.name != new.name:
        yield f"the data set was {old.name} and is {new.name}"
    yield from _list_differences("scenario", dict.fromkeys(old.scenarios), dict.fromkeys(new.scenarios))
    yield from _list_differences("task", *({task.name: _task(task) for task in one.tasks} for one in (old, new)))


def _floor_differences(old: Encoder, new: Encoder) -> Iterator[str]:
    """Regression tasks whose outputs have another meaning: with a floor or without one."""
    for task in old.targets.keys() & new.targets.keys():
        if (old.targets[task].floor is None) != (new.targets[task].floor is None):
            yield f"the floor of task {task} was {old.targets[task].floor} and is {new.targets[task].floor}"


def _task(task: Task) -> tuple[Any, ...]:
    """What the outputs of a task mean."""
    return task.kind, task.classes, task.requires


def _list_differences(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"{what} {name} was removed"
        elif old[name] != new[name]:
            yield f"{what} {name} was changed"
    yield from (f"{what} {name} was added" for name in new if name not in old)
    if list(old) != list(new) and set(old) == set(new):
        yield f"the order of the {what}s was {', '.join(old)} and is {', '.join(new)}"


def _embeddings(network: nn.Module) -> Iterator[tuple[str, FeatureEmbedding]]:
    return ((name, module) for name, module in network.named_modules() if isinstance(module, FeatureEmbedding))


def moved_scales(before: Encoder, after: Encoder) -> dict[str, list[float]]:
    """By number, vector or regression target whose scale moved: the shift of its mean, and the factor of its deviation.

    The shift is in old deviations. Of a vector it is the dimension that moved most.
    """
    old, moved = dict(_scales(before)), {}
    for name, (means, deviations) in _scales(after):
        if name in old and len(old[name][0]) == len(means):
            shift = (means - old[name][0]) / old[name][1]
            factor = deviations / old[name][1]
            most = np.argmax(np.maximum(abs(shift), abs(factor - 1)))
            if max(abs(shift[most]), abs(factor[most] - 1)) > MOVED:
                moved[name] = [round(float(shift[most]), 4), round(float(factor[most]), 4)]
    return dict(sorted(moved.items()))


def _scales(encoder: Encoder) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """By name, means and deviations [2, dimensions]; a number has one dimension."""
    yield from ((name, np.array([[mean], [deviation]])) for name, (mean, deviation) in encoder.scales.items())
    yield from ((name, np.array(scale)) for name, scale in encoder.vector_scales.items())
    yield from ((name, np.array([[scale.mean], [scale.deviation]])) for name, scale in encoder.targets.items())


def _check_shapes(new: Mapping[str, Tensor], mapped: Mapping[str, Tensor], model: str) -> None:
    """Raise TrainingError where weights have another shape: they depend on the number of columns in another way."""
    for name, weights in mapped.items():
        if weights.shape != new[name].shape:
            raise TrainingError(
                f"a {model} cannot begin in a model of other columns: the weights {name} have the shape "
                f"{tuple(weights.shape)}, expected {tuple(new[name].shape)}; begin from nothing"
            )
