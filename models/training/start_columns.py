"""Weights of a model whose input columns are others, mapped by the name of each column.

Which axes of which weights run over the features of a row is measured, not declared: they grow where the network is
built for one number more. So no network has code of its own for it. One with weights that the columns enter in another
way (beside other inputs, or pair by pair) is refused.

Letters: E width of an embedding, D width of a row's features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.errors import TrainingError
from features.encoding.encoder import Encoder
from features.schema import Column, Kind, Schema
from models.model_folder import build_network

Columns = Literal["refuse", "map"]


@dataclass(frozen=True)
class Start:
    """What is trained, and how the columns of another model are treated.

    Args:
        model: the name of the network.
        arguments: those that the network is built from.
        schema: the schema of the data set.
        encoder: the encoder of the rows.
        columns: what to do where the model has other input columns.
    """

    model: str
    arguments: Mapping[str, Any]
    schema: Schema
    encoder: Encoder
    columns: Columns = "refuse"


def column_changes(old: Encoder, new: Encoder) -> dict[str, list[str]]:
    """The input columns that were added, removed or changed, or all of them where only their order is another."""
    before, after = ({column.name: _signature(column) for column in one.columns} for one in (old, new))
    changes = {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": [name for name in after if name in before and after[name] != before[name]],
    }
    if not any(changes.values()) and list(before) != list(after):
        changes["in another order"] = list(after)
    return {what: names for what, names in changes.items() if names}


def _signature(column: Column) -> tuple[Any, ...]:
    """What the weights that read a column depend on; a bag may have any length, a number its flag."""
    shape = column.length if column.is_vector else None
    flag = column.nullable if column.kind in (Kind.NUMERIC, Kind.VECTOR) else None
    vocabulary = column.vocabulary if column.has_vocabulary else None
    return column.dtype, column.kind, vocabulary, column.log, shape, flag


def map_columns(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], before: Encoder, today: Start
) -> dict[str, Tensor]:
    """Every weight but the embeddings, those of common columns taken over; what reads a new column is 0.

    Raises TrainingError on a network that reads a row's features in a place where they do not stand alone.
    """
    width = today.arguments["config"]["embedding_width"]
    source = {part: index for index, part in enumerate(_parts(before, width))}
    target = _parts(today.encoder, width)
    kept = [(index, source[part]) for index, part in enumerate(target) if part in source]
    pairs = torch.tensor(kept, dtype=torch.int64).reshape(-1, 2).unbind(1)
    axes, vectors = _feature_axes(today), _vector_names(before, today.encoder)
    mapped = {}
    for name, initial in new.items():
        prefix, _, vector = name.partition("projections.")
        if vector:
            taken = vectors.get(int(vector.split(".")[0]))
            mapped[name] = initial if taken is None else old[f"{prefix}projections.{taken}.weight"]
        elif name in axes:
            _check_exclusive(name, old[name], axes[name], len(source), today.model)
            mapped[name] = _spread(old[name], initial, axes[name], pairs)
        else:
            mapped[name] = old.get(name, initial)
    return mapped


def _check_exclusive(name: str, weights: Tensor, axes: Sequence[int], features: int, model: str) -> None:
    """Raise TrainingError where an axis of the weights runs over more than the features of a row."""
    sizes = [weights.shape[axis] for axis in axes]
    if set(sizes) != {features}:
        raise TrainingError(
            f"train.warm_start_columns is map, but a {model} cannot be mapped by column: {name} reads the {features} "
            f"features of a row beside other inputs, found axes of {sizes}; begin from nothing"
        )


def _spread(old: Tensor, initial: Tensor, axes: Sequence[int], pairs: Sequence[Tensor]) -> Tensor:
    """Weights with the features of a row along `axes`: `pairs` are the new and the old index of those in common."""
    spread = old
    for axis in axes:
        shape = [*spread.shape]
        shape[axis] = initial.shape[axis]
        base = initial if initial.dim() == 1 else initial.new_zeros(shape)
        spread = base.index_copy(axis, pairs[0], spread.index_select(axis, pairs[1]))
    return spread


def _parts(encoder: Encoder, width: int) -> list[tuple[Any, ...]]:
    """A name for each of the D features of a row, in the order of FeatureEmbedding."""
    columns = encoder.columns
    ordered = [c for c in columns if c.kind is Kind.CATEGORICAL] + [c for c in columns if c.is_list]
    ordered += [column for column in columns if column.is_vector]
    embedded = [(column.name, _signature(column), part) for column in ordered for part in range(width)]
    plain = [column for column in columns if column.kind is Kind.NUMERIC]
    return embedded + [(c.name, _signature(c), part) for c in plain for part in range(1 + c.nullable)]


def _vector_names(before: Encoder, after: Encoder) -> dict[int, int]:
    """For the index of each vector, that of the same vector before."""
    names = [{(c.name, _signature(c)): 0 for c in one.columns if c.is_vector} for one in (before, after)]
    old, new = (list(one) for one in names)
    return {index: old.index(vector) for index, vector in enumerate(new) if vector in old}


def _feature_axes(today: Start) -> dict[str, list[int]]:
    """By weight, its axes that run over the features of a row: those that grow where a row has one number more.

    Raises TrainingError where others grow with a categorical column more, such as weights for pairs of columns.
    """
    data = today.arguments["data"]
    axes = _grown(today, {"numeric": data["numeric"] + 1})
    others = _grown(today, {"categorical_tables": [*data["categorical_tables"], 0]}) if data["table_rows"] else axes
    if wrong := [name for name in others if others[name] != axes.get(name)]:
        raise TrainingError(
            f"train.warm_start_columns is map, but a {today.model} cannot be mapped by column: {', '.join(wrong)} "
            "depends on the columns in another way than by a weight for each; begin from nothing"
        )
    return axes


def _grown(today: Start, changes: Mapping[str, Any]) -> dict[str, list[int]]:
    """By weight, its axes that are longer where the data have these changes; nothing is allocated."""
    with torch.device("meta"):
        one, other = (
            build_network(today.model, {**today.arguments, "data": {**today.arguments["data"], **more}})
            for more in ({}, changes)
        )
    shapes = {name: weights.shape for name, weights in one.state_dict().items()}
    grown = {
        name: [axis for axis, size in enumerate(weights.shape) if size != shapes[name][axis]]
        for name, weights in other.state_dict().items()
    }
    return {name: axes for name, axes in grown.items() if axes}
