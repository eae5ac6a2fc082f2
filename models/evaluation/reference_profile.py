"""The reference profile of a model on its validation rows: scores, calibration, permutation importance.

It is kept in the model folder (behaviour.json). Drift monitoring compares later scores with it and weights the drift of
a column by its importance.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from features.encoding.encoder import Encoder
from features.encoding.tensors import Tensors
from features.schema import Schema, TaskKind, output_slices
from models.evaluation.accuracy import probabilities_of
from models.evaluation.concordance import concordance
from models.evaluation.metrics import auc, mean_of_cells
from models.evaluation.predict import predict

BINS = 10
DIGITS = 6
SAMPLE = 10_000  # rows on which the importance is measured
SEED = 1


def measure_profile(
    network: nn.Module, valid: Tensors, encoder: Encoder, schema: Schema, *, logits: NDArray[Any] | None = None
) -> dict[str, Any]:
    """`scores` by "scenario/task" (see `score_cells`) and the `importance` of every column of the encoder.

    `logits` [N, O] are those of a calibrated model; None: those of the network. The importance is that for the network:
    a calibration changes no order within a cell.
    """
    logits = predict(network, valid, "validation rows") if logits is None else logits
    probabilities = probabilities_of(logits, schema.tasks, encoder.targets)
    return {
        "scores": score_cells(probabilities, valid.labels, valid.scenario, schema),
        "importance": permutation_importance(network, valid, encoder, schema),
    }


def score_cells(
    probabilities: NDArray[np.float64],
    labels: NDArray[Any],
    scenario: NDArray[Any],
    schema: Schema,
    edges: dict[str, list[float]] | None = None,
) -> dict[str, Any]:
    """The scores of each cell of a task with one output, by "scenario/task"; probabilities [N, O], labels [N, T].

    `edges` are the inner bounds of the bins (default: of equal mass). `counts` (rows) and `predicted` (sum of the
    probabilities) are per bin, over all rows. `rows`, `positives`, `expected` (sum of the probabilities) and `auc` are
    over the rows with a label; `observed` has three lists per bin of those: rows, sum of the probabilities, positives.

    Of a regression the expected value stands for the probability, the sum of the labels for the positives and the XAUC
    for the AUC; `auc_deviation` is its standard deviation, `error` the sum of the squared errors.
    """
    cells = {}
    for code, name in enumerate(schema.scenarios):
        own = np.asarray(scenario) == code
        for column, (task, outputs) in enumerate(zip(schema.tasks, output_slices(schema.tasks), strict=True)):
            if task.kind is not TaskKind.MULTI_CLASS and own.any():
                cell = f"{name}/{task.name}"
                cell_edges = None if edges is None else edges.get(cell)
                of_cell = probabilities[own, outputs][:, 0], np.asarray(labels)[own, column]
                cells[cell] = _cell(*of_cell, cell_edges) | (
                    _of_numbers(*of_cell) if task.kind is TaskKind.REGRESSION else {}
                )
    return cells


def _cell(scores: NDArray[np.float64], labels: NDArray[Any], edges: list[float] | None) -> dict[str, Any]:
    if edges is None:
        edges = np.unique(np.quantile(scores, np.arange(1, BINS) / BINS)).round(9).tolist()
    bins = np.searchsorted(edges, scores, side="right")
    observed = ~np.isnan(labels)
    area = auc(labels[observed], scores[observed])  # of numbers: see _of_numbers
    weights = (None, scores[observed], labels[observed])
    return {
        "edges": edges,
        "counts": _by_bin(bins, None, edges),
        "predicted": _by_bin(bins, scores, edges),
        "observed": [_by_bin(bins[observed], values, edges) for values in weights],
        "rows": int(observed.sum()),
        "positives": int(labels[observed].sum()),
        "expected": round(float(scores[observed].sum()), DIGITS),
        "auc": None if area is None else round(area, DIGITS),
    }


def _of_numbers(scores: NDArray[np.float64], labels: NDArray[Any]) -> dict[str, Any]:
    """What differs where the labels of a cell are numbers."""
    observed = ~np.isnan(labels)
    wide, scores = labels[observed].astype(np.float64), scores[observed]
    pairs = concordance(wide, scores)
    return {
        "positives": round(float(wide.sum()), DIGITS),
        "auc": None if pairs is None else round(pairs.value, DIGITS),
        "auc_deviation": None if pairs is None else round(float(np.sqrt((pairs.influence**2).sum())), 9),
        "error": round(float(((wide - scores) ** 2).sum()), DIGITS),
    }


def _by_bin(bins: NDArray[np.int64], weights: NDArray[Any] | None, edges: list[float]) -> list[float]:
    total = np.bincount(bins, weights, minlength=len(edges) + 1)
    sums: list[float] = (total if weights is None else total.round(DIGITS)).tolist()
    return sums


def permutation_importance(
    network: nn.Module, rows: Tensors, encoder: Encoder, schema: Schema, *, sample: int = SAMPLE
) -> dict[str, float]:
    """By column, the fall of the mean over the cells when the column's values are permuted between the rows.

    L. Breiman, Random Forests, Machine Learning 45, 2001; on up to `sample` rows, with the same permutation of every
    column.
    """
    random = np.random.default_rng(SEED)
    chosen = np.sort(random.permutation(len(rows.scenario))[:sample])
    rows = _take(rows, chosen)
    order = random.permutation(len(chosen))
    unchanged = _mean(network, rows, schema)
    return {
        name: round(unchanged - _mean(network, dataclasses.replace(rows, **permuted), schema), DIGITS)
        for name, permuted in _permuted(rows, encoder, order)
    }


def _permuted(
    rows: Tensors, encoder: Encoder, order: NDArray[np.int64]
) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """By column, the array of the tensors that holds it, with the column's part in another order."""
    start = dict.fromkeys(("categorical", "bags"), 0)
    for column in encoder.columns:
        if column in encoder.numbers:
            name, width = "numeric", encoder.numbers.count(column)
            own = slice(first := encoder.numbers.index(column), first + width)
        else:
            name, width = ("bags", column.length or 0) if column.is_list else ("categorical", 1)
            own = slice(start[name], start[name] + width)
            start[name] += width
        permuted = getattr(rows, name).copy()
        permuted[:, own] = permuted[order, own]
        yield column.name, {name: permuted}


def _take(rows: Tensors, chosen: NDArray[np.int64]) -> Tensors:
    arrays = {name: values for name, values in vars(rows).items() if values is not None}
    return Tensors(**{name: np.asarray(values[chosen]) for name, values in arrays.items()})


def _mean(network: nn.Module, rows: Tensors, schema: Schema) -> float:
    logits = predict(network, rows, "importance", silent=True)
    mean, _ = mean_of_cells(
        rows.labels,
        logits,
        rows.scenario,
        schema.tasks,
        scenarios=len(schema.scenarios),
        choice_set=rows.choice_set,
        weight=rows.weight,
    )
    return mean
