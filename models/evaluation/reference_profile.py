"""What a model did on its validation rows: the scores it gave, how right they were, and what it listened to.

Kept in the model folder, so that drift of scores has a reference and drift of a column a weight.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import Kind, Schema, TaskKind, places
from models.evaluation.accuracy import probabilities_of
from models.evaluation.metrics import auc, mean_of_cells
from models.evaluation.predict import predict

BINS = 10
SAMPLE = 10_000  # rows on which the importance is measured
SEED = 1


def behaviour_of(network: nn.Module, valid: Tensors, encoder: Encoder, schema: Schema) -> dict[str, Any]:
    """`scores` by "scenario/task" (see `score_cells`) and the `importance` of every column of the encoder."""
    probabilities = probabilities_of(predict(network, valid, "validation rows"), schema.tasks)
    return {
        "scores": score_cells(probabilities, valid.labels, valid.scenario, schema),
        "importance": importance(network, valid, encoder, schema),
    }


def score_cells(
    probabilities: NDArray[np.float64],
    labels: NDArray[Any],
    scenario: NDArray[Any],
    schema: Schema,
    edges: dict[str, list[float]] | None = None,
) -> dict[str, Any]:
    """The scores of each cell of a task with one probability, by "scenario/task"; probabilities [N, O], labels [N, T].

    `edges` are the inner bounds of the bins (default: by equal mass), `counts` and `predicted` (sums) go by these bins
    for all rows; `rows`, `positives`, `expected` (sum of the probabilities) and `auc` are of the rows with a label,
    `observed` their [rows, sum of the probabilities, positives] by bin.
    """
    cells = {}
    for code, name in enumerate(schema.scenarios):
        own = np.asarray(scenario) == code
        for column, (task, place) in enumerate(zip(schema.tasks, places(schema.tasks), strict=True)):
            if task.kind is not TaskKind.MULTI_CLASS and own.any():
                cell = f"{name}/{task.name}"
                held = None if edges is None else edges.get(cell)
                cells[cell] = _cell(probabilities[own, place][:, 0], np.asarray(labels)[own, column], held)
    return cells


def _cell(scores: NDArray[np.float64], labels: NDArray[Any], edges: list[float] | None) -> dict[str, Any]:
    if edges is None:
        edges = np.unique(np.quantile(scores, np.arange(1, BINS) / BINS)).round(9).tolist()
    place = np.searchsorted(edges, scores, side="right")
    seen = ~np.isnan(labels)
    found = auc(labels[seen], scores[seen])
    return {
        "edges": edges,
        "counts": _by_bin(place, None, edges),
        "predicted": _by_bin(place, scores, edges),
        "observed": [_by_bin(place[seen], held, edges) for held in (None, scores[seen], labels[seen])],
        "rows": int(seen.sum()),
        "positives": int(labels[seen].sum()),
        "expected": round(float(scores[seen].sum()), 6),
        "auc": None if found is None else round(found, 6),
    }


def _by_bin(place: NDArray[np.int64], weights: NDArray[Any] | None, edges: list[float]) -> list[float]:
    total = np.bincount(place, weights, minlength=len(edges) + 1)
    plain: list[float] = (total if weights is None else total.round(6)).tolist()
    return plain


def importance(
    network: nn.Module, rows: Tensors, encoder: Encoder, schema: Schema, *, sample: int = SAMPLE
) -> dict[str, float]:
    """By how much the mean over the cells falls when the values of a column are dealt to other rows.

    Permutation importance (Breiman 2001) on up to `sample` rows, the same and in the same order for every column.
    """
    random = np.random.default_rng(SEED)
    chosen = np.sort(random.permutation(len(rows.scenario))[:sample])
    rows = _take(rows, chosen)
    order = random.permutation(len(chosen))
    plain = _mean(network, rows, schema)
    return {
        name: round(plain - _mean(network, dataclasses.replace(rows, **mixed), schema), 6)
        for name, mixed in _shuffled(rows, encoder, order)
    }


def _shuffled(
    rows: Tensors, encoder: Encoder, order: NDArray[np.int64]
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """By column, the array that it stands in with its part of it in another order."""
    start = dict.fromkeys(("categorical", "bags", "numeric"), 0)
    for column in encoder.columns:
        where = "bags" if column.is_list else "numeric" if column.kind is Kind.NUMERIC else "categorical"
        width = (column.length or 0) if column.is_list else 1 + (where == "numeric" and column.nullable)
        own = slice(start[where], start[where] + width)
        start[where] += width
        mixed = getattr(rows, where).copy()
        mixed[:, own] = mixed[order, own]
        yield column.name, {where: mixed}


def _take(rows: Tensors, chosen: NDArray[np.int64]) -> Tensors:
    held = {name: values for name, values in vars(rows).items() if values is not None}
    return Tensors(**{name: np.asarray(values[chosen]) for name, values in held.items()})


def _mean(network: nn.Module, rows: Tensors, schema: Schema) -> float:
    logits = predict(network, rows, "importance", silent=True)
    return mean_of_cells(
        rows.labels, logits, rows.scenario, schema.tasks, scenarios=len(schema.scenarios), choice_set=rows.choice_set
    )[0]
